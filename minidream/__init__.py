"""minidream: DreamLLM made small enough to understand, with the same code for the toy and for the full weights."""

from . import probe
from .documents import Document
from .model import DreamLLM
from .weights import load, save

__all__ = ["Document", "DreamLLM", "budget", "load", "probe", "save"]
__version__ = "0.1.0"


def budget() -> str:
    """How much a notebook may compute: "ci", "cpu" or "gpu"; by hardware, unless MINIDREAM_BUDGET says otherwise."""
    import os

    import torch

    chosen = os.environ.get("MINIDREAM_BUDGET") or ("gpu" if torch.cuda.is_available() else "cpu")
    if chosen not in ("ci", "cpu", "gpu"):
        raise ValueError(f'MINIDREAM_BUDGET is "ci", "cpu" or "gpu", not {chosen!r}')
    return chosen
