"""Model families: one file each, with only what is specific to that model. `base` holds the contract."""
