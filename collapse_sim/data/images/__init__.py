"""Images: one file a kind of data, and how image files are found, checked and decoded."""
