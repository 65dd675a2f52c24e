"""What an experiment is and everything to be made for it: keys, sizes and closed forms, no models."""
