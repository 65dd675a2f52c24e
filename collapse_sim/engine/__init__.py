"""The engine: the only optimisation loop, the only sampling driver, and all that knows the machine."""
