"""The ground: components, the registry, errors, events, randomness, the machine, hashes. It knows nothing of the rest."""
