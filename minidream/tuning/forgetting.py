"""What fine-tuning forgets: losses on what a model knew before, before and after."""

import random
from collections.abc import Callable

import torch

from ..documents import Document, Layout
from ..model import DreamLLM

SAMPLES = 32  # of each task
AT_ONCE = 8
# A task draws layouts and documents: task(random generator, number of documents, model).
Task = Callable[[random.Random, int, DreamLLM], tuple[list[Layout], list[Document]]]
Losses = dict[str, dict[str, float]]  # {task: {"language" or "diffusion": loss}}


@torch.no_grad()
def loss_of(model: DreamLLM, layouts: list[Layout], documents: list[Document]) -> dict[str, float]:
    """The mean losses over some documents, each batch with the same noise at every call.

    What no document has a target for is left out.
    """
    sums, counts = {}, {}
    for first in range(0, len(layouts), AT_ONCE):
        some = layouts[first : first + AT_ONCE], documents[first : first + AT_ONCE]
        losses = model.loss_of_layouts(*some, torch.Generator().manual_seed(first))
        for name in ("language", "diffusion"):
            sums[name] = sums.get(name, 0.0) + getattr(losses, name).item() * len(some[0])
            counts[name] = counts.get(name, 0) + len(some[0])
    return {name: sums[name] / counts[name] for name in sums if sums[name]}


def losses_on_tasks(model: DreamLLM, tasks: dict[str, Task]) -> Losses:
    """Losses on fresh samples of tasks, which are the same at every call."""
    found = {}
    for name, task in tasks.items():
        samples = task(random.Random(f"before and after {name}"), SAMPLES, model)
        found[name] = loss_of(model, *samples)
    return found


def comparison(before: Losses, after: Losses) -> str:
    """Both as a table in plain text."""
    lines = [f"{'loss':34} {'before':>8} {'after':>8}"]
    for task, losses in before.items():
        for name, value in losses.items():
            lines.append(f"{task + ', ' + name:34} {value:8.4f} {after[task][name]:8.4f}")
    return "\n".join(lines)
