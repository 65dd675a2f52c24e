"""Texts: one file a kind of data, and how they are found, read and tokenized."""
