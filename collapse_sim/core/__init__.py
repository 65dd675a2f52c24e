"""What everything else stands on: components, registry, errors, events, randomness, the machine, hashes, files."""
