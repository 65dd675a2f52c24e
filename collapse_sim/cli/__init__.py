"""The command line: one small module per command. Modules here import torch only inside the functions that need it."""
