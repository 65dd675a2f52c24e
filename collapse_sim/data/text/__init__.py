"""Texts: one file per kind of data, and how they are found, read and tokenised."""
