"""Images: one file per kind of data, and how image files are found, checked and decoded."""
