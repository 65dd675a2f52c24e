"""What all other packages build on: components, registry, errors, events, randomness, the machine, hashes, files."""
