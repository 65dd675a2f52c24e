"""The report on runs: a document made of sections, and the pages that show it."""
