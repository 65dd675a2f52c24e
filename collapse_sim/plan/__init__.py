"""What an experiment is, and all that there is to make of it. Nothing is computed here but keys, sizes and closed forms."""
