"""minidream: DreamLLM made small enough to understand; the same code runs the full weights."""

from .documents import Document
from .model import DreamLLM

__all__ = ["Document", "DreamLLM", "budget", "data", "load", "probe", "save"]
__version__ = "0.1.0"


def __getattr__(name: str):
    """Imports what is not always needed when it is first used: much of it takes seconds."""
    import importlib

    if name in ("data", "probe"):
        return importlib.import_module(f".{name}", __name__)
    if name in ("load", "save"):
        return getattr(importlib.import_module(".weights", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def budget() -> str:
    """How much a notebook may compute: "ci", "cpu" or "gpu".

    The hardware decides, unless the environment variable MINIDREAM_BUDGET does.

    Raises:
        ValueError: if MINIDREAM_BUDGET is none of the three.
    """
    import os

    import torch

    chosen = os.environ.get("MINIDREAM_BUDGET") or ("gpu" if torch.cuda.is_available() else "cpu")
    if chosen not in ("ci", "cpu", "gpu"):
        raise ValueError(f'MINIDREAM_BUDGET is "ci", "cpu" or "gpu", not {chosen!r}')
    return chosen
