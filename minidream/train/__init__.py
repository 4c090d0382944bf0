"""Training: the one loop, the batches, the stages, and the command line."""

from .loop import Recipe, fit

__all__ = ["Recipe", "fit"]
