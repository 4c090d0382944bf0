"""Linear probes: which attribute can be read from which query at which layer, with a control.

Source: Alain & Bengio 2017.
"""

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from torch import Tensor
from torch.nn import functional as F

from ..images import as_integer
from .indices import several


@dataclass
class ProbeResult:
    """Held-out accuracy of linear probes, in [0, 1].

    accuracy: shape (layers, queries).
    control: the same, of probes trained on shuffled labels (Hewitt & Liang 2019).
    chance: the share of the most frequent label among the held-out ones.
    """

    accuracy: Tensor
    control: Tensor
    chance: float


def fit_ridge(
    inputs: Tensor, labels: Tensor, classes: int, penalty: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Ridge regression onto one-hot labels, in closed form, of many probes at once.

    Args:
        inputs: shape (probes, samples, dim).
        labels: shape (samples,), integers in [0, classes).
        penalty: of the squared weights, times the mean variance of a dimension and the number of
            samples.

    Returns:
        Means and standard deviations by which inputs are standardized, (probes, 1, dim) and
        (probes, 1, 1), and weights (probes, dim + 1, classes).
    """
    means, scale = inputs.mean(dim=1, keepdim=True), inputs.std(dim=(1, 2), keepdim=True)
    wide = with_constant((inputs - means) / scale)
    wanted = repeat(
        F.one_hot(labels, classes).to(inputs),
        "samples classes -> probes samples classes",
        probes=len(inputs),
    )
    unit = torch.eye(wide.shape[-1], dtype=inputs.dtype, device=inputs.device)
    squares = wide.transpose(1, 2) @ wide + penalty * inputs.shape[1] * unit
    return means, scale, torch.linalg.solve(squares, wide.transpose(1, 2) @ wanted)


def with_constant(inputs: Tensor) -> Tensor:
    """A 1 at the end of every sample: (probes, samples, dim) to (probes, samples, dim + 1)."""
    return F.pad(inputs, (0, 1), value=1.0)


def linear_probes(
    states: Tensor, labels: list, held_out: int, penalty: float = 0.01, seed: int = 0
) -> ProbeResult:
    """Trains a linear probe on every query of every layer, and tests it on held-out prompts.

    Args:
        states: as from `query_stream`, shape (layers, prompts, queries, hidden).
        labels: what to read, one for each prompt: a list of any words or numbers, or a tensor.
            Prompts with None are left out.
        held_out: how many of the prompts, the last ones, are used for testing only.
        penalty: see `fit_ridge`.
        seed: of the shuffling.

    Raises:
        TypeError: for `held_out` that is not a number.
        ValueError: if labels do not match the prompts, or too few are left (both numbers).
    """
    labels, held_out = several(labels), as_integer("held_out", held_out, 1)
    if len(labels) != states.shape[1]:
        raise ValueError(f"{len(labels)} labels were given for {states.shape[1]} prompts")
    names = sorted({label for label in labels if label is not None}, key=str)
    known = [number for number, label in enumerate(labels) if label is not None]
    train, test = (
        [number for number in known if (number < len(labels) - held_out) == early]
        for early in (True, False)
    )
    if len(names) < 2 or not train or not test:
        raise ValueError(
            "a probe needs at least two labels, and prompts for training and for testing: "
            f"{len(names)}, {len(train)} and {len(test)}"
        )
    numbers = torch.tensor(
        [names.index(label) if label is not None else -1 for label in labels], device=states.device
    )
    inputs = rearrange(
        states.float(), "layers prompts queries hidden -> (layers queries) prompts hidden"
    )
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed), device="cpu")
    accuracies = []
    for taught in (numbers[train], numbers[train][order]):
        with torch.autocast(inputs.device.type, enabled=False):  # which would round the products
            means, scale, weights = fit_ridge(inputs[:, train], taught, len(names), penalty)
            guessed = (with_constant((inputs[:, test] - means) / scale) @ weights).argmax(dim=-1)
        share = (guessed == numbers[test]).float().mean(dim=1).cpu()
        accuracies.append(
            rearrange(share, "(layers queries) -> layers queries", layers=len(states))
        )
    return ProbeResult(*accuracies, chance=numbers[test].bincount().max().item() / len(test))
