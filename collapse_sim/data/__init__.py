"""Real rows and held-out rows; one file per kind of data. `base` holds the contract."""
