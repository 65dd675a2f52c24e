"""The command line: one small module a command. Modules here import torch only inside the functions that need it."""
