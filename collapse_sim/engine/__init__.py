"""The engine: the only optimisation loop, the only sampling driver, and everything specific to the machine."""
