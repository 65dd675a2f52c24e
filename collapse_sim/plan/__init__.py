"""What an experiment is, and all that there is to make of it: keys, sizes and closed forms, no models."""
