"""collapse-sim: a multi-generation model-collapse simulator."""

__version__ = "0.1.0"
