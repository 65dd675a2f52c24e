"""One callable a metric; one file a kind of data. `base` holds the contract."""
