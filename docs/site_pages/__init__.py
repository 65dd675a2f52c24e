"""What the documentation site makes itself: pages from the code, and a table of contents from the pages that exist."""
