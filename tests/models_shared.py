"""Models that several tests need: the toy before training, and the tiny official checkpoint."""

from pathlib import Path

import minidream
from minidream.model import DreamLLM
from minidream.tokenizers import ToyTokenizer
from minidream.weights import toy
from minidream.world.language import VOCABULARY

TINY = Path(__file__).parent / "fixtures" / "tiny-a"


def untrained_toy() -> DreamLLM:
    """A toy with random weights, frozen."""
    return toy.new_model(ToyTokenizer(VOCABULARY), seed=2).eval().requires_grad_(False)


def tiny_official() -> DreamLLM:
    """The tiny checkpoint that the official code wrote."""
    configs = TINY / "component_configs"
    return minidream.load(TINY / "checkpoint", device="cpu", component_configs=configs)
