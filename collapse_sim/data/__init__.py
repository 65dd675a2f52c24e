"""Real rows and held-out rows; one file a kind of data. `base` holds the contract."""
