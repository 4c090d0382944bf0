"""The machinery of training: the one loop, plans, processes, laid-out documents, and shipping."""

from .loop import Recipe, fit

__all__ = ["Recipe", "fit"]
