"""minidream: DreamLLM made small enough to understand, with the same code for the toy and for the full weights."""

__version__ = "0.1.0"
