"""prefdyn: exact and fast measurement of what preference learning does to a language model."""

__version__ = "0.1.0"
