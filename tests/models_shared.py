"""What several tests need: the untrained toy, the tiny official checkpoint, other processes."""

import os
from contextlib import contextmanager
from pathlib import Path

import torch

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


def same_weights(one: DreamLLM, other: DreamLLM) -> bool:
    """Whether two models have the same tensors, bit for bit."""
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(
        torch.equal(left[name], right[name]) for name in left
    )


def in_child(run) -> int:
    """Runs a function in a process of its own, which it ends with `os._exit`.

    Returns:
        The id of the process. If the function returns or raises, the process's status is 9.
    """
    child = os.fork()
    if child:
        return child
    try:
        run()
    finally:
        os._exit(9)


def status(child: int) -> int:
    """Waits for a process; the status that it ended with."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextmanager
def without_privileges(*folders: Path):
    """As an ordinary user who owns some folders; for root, rights are no limit."""
    if os.geteuid() != 0:
        yield
        return
    for folder in folders:
        os.chown(folder, 65534, -1)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
