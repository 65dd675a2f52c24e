"""Model families: one file each, what is peculiar to the model. `base` holds the contract."""
