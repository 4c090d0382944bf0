"""What the tests of the families share: a tiny plan, a scene, small inputs and built families."""

from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import cache

import pytest
import torch
from models_shared import untrained_toy

from minidream.families.family import Family, FamilyPlan
from minidream.llm import LLM, LLMConfig
from minidream.model import DreamLLM
from minidream.studies import family_runs
from minidream.weights import parts, toy
from minidream.world.scenes import Scene, SceneObject

PLAN = FamilyPlan(steps=4, batch=3, prompts=1)
RING = Scene((SceneObject("ring", "green", "large", x=0.6, y=0.4),), "gray")


@cache
def pretrained() -> DreamLLM:
    """What stands for the pretrained parts: an untrained toy, made once; not to be changed.

    It paints in two steps, since nothing comes of twenty either.
    """
    model = untrained_toy()
    model.decoder.config = replace(model.decoder.config, num_inference_steps=2)
    return model


@contextmanager
def pretrained_once():
    """Inside, families are built from copies of `pretrained()` and of an untrained text tower."""
    shared = pretrained()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        text_tower = toy.new_clip(len(shared.tokenizer))[1].eval().requires_grad_(False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "toy_before", lambda stage: deepcopy(shared))
        patch.setattr(toy, "pretrained_text_tower", lambda: text_tower)
        yield


def build(name: str, seed: int = 0) -> Family:
    """A family before training, made from a copy of the pretrained parts."""
    with pretrained_once():
        return family_runs.build(family_runs.FAMILIES[name][1], PLAN, seed)


def tiny_llm(seed: int = 0) -> LLM:
    """Three layers, four heads over two key/value heads of 2 numbers each."""
    config = LLMConfig(
        vocab_size=11,
        hidden_size=8,
        intermediate_size=6,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    llm = LLM(config)
    llm.initialize(torch.Generator().manual_seed(seed), std=0.5)
    return llm.requires_grad_(False)


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    """Numbers from the standard normal distribution."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
