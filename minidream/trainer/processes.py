"""Several processes that train together: `torchrun --nproc-per-node 2 -m minidream.train STAGE`.

Each process has a copy of the stage. All draw the same batch and the same noise, and each computes
the losses of every n-th sample. A loss is a mean over tokens, pictures or patches, of which one
process may have more than another; so each process weights its means by its share of them. The
average over the processes, of losses and of gradients, is then what one process computes from the
whole batch, up to rounding.
"""

import os
from dataclasses import dataclass

import torch
import torch.distributed
from accelerate import PartialState
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from ..documents import IGNORED, Document, Layout
from ..images import draw
from ..model import DreamLLM, Losses


def on_cpu() -> bool:
    """Whether several processes train on the CPU, where accelerate only sees one unless told."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1 and not torch.cuda.is_available()


def state() -> PartialState:
    """Which process this is, of how many; the first call connects it with the others."""
    return PartialState(cpu=on_cpu())


@dataclass(frozen=True)
class SharedNoise:
    """Takes the place of a generator: draws for a whole batch, and keeps this process's rows."""

    generator: torch.Generator
    rows: Tensor  # True for those that are kept, shape (rows of the whole batch,)

    def draw(self, sampler, shape: tuple[int, ...]) -> Tensor:
        """As `images.draw`, of which this is a part."""
        whole = draw(sampler, (len(self.rows), *shape[1:]), self.generator)
        return whole[self.rows.to(whole.device)]


class SharedStage(nn.Module):
    """A stage whose batches several processes share."""

    def share(self, batch: tuple, rows: slice) -> tuple[tuple, Tensor]:
        """What one process takes of a batch.

        Args:
            batch: its lists and tensors have an entry for each sample.
            rows: of the samples that this process takes: every n-th one.

        Returns:
            The smaller batch. A mask over the rows of noise that `forward` draws for the whole
            batch, True for those of this process; here a row for each sample.

        Raises:
            ValueError: if there are fewer samples than processes (both numbers).
        """
        samples = len(batch[0])
        if samples < rows.step:
            raise ValueError(
                f"{rows.step} processes cannot share a batch of {samples}: start fewer processes"
            )
        own = torch.zeros(samples, dtype=torch.bool, device="cpu")
        own[rows] = True
        return tuple(
            item[rows] if isinstance(item, (list, Tensor)) else item for item in batch
        ), own


def own_rows(samples: int) -> Tensor:
    """The indices of the samples of a shared batch that this process has taken."""
    return torch.arange(samples, device="cpu")[state().process_index :: state().num_processes]


def joined_weights(*counts) -> Tensor:
    """The weights of means over this process's elements.

    Args:
        counts: of the elements behind each mean, or the sum of their weights; numbers or scalars.

    Returns:
        Shape (counts,). The average over all processes of the means times their weights is the mean
        over the elements of all of them. One process alone has weights of 1.
    """
    processes, device = state().num_processes, state().device
    if processes == 1:
        return torch.ones(len(counts), dtype=torch.float32, device="cpu")
    own = torch.stack([torch.as_tensor(count).to(device, torch.float32) for count in counts])
    totals = own.clone()
    torch.distributed.all_reduce(totals)
    # Where there is no element at all, the mean is 0 and no weight matters.
    return own * processes / totals.clamp(min=1e-12)


def joined_rows(own: Tensor, samples: int) -> Tensor:
    """Rows of this process's samples to rows of all samples of a shared batch, with gradients.

    Args:
        own: shape (own samples, dim).
        samples: of the whole batch.

    Returns:
        Shape (samples, dim), in the order of the batch, the same on every process.
    """
    if state().num_processes == 1:
        return own
    rows = own_rows(samples).to(own.device)
    # This all_reduce is differentiable: each process's loss depends on the rows of all.
    return all_reduce(own.new_zeros(samples, own.shape[1]).index_copy(0, rows, own))


def joined_losses(
    model: DreamLLM, layouts: list[Layout], documents: list[Document], generator, *features
) -> Losses:
    """`DreamLLM.loss_of_layouts`, weighted by this process's share of the tokens and pictures."""
    losses = model.loss_of_layouts(layouts, documents, generator, *features)
    return weighted_losses(model, losses, layouts)


def weighted_losses(model: DreamLLM, losses: Losses, layouts: list[Layout]) -> Losses:
    """Losses of `DreamLLM.loss_of_layouts`, weighted by this process's share of their targets.

    Args:
        model: whose losses.
        losses: of this process's documents.
        layouts: of these documents.
    """
    if state().num_processes == 1:
        return losses
    tokens = sum(label != IGNORED for layout in layouts for label in layout.labels[1:])
    pictures = sum(len(layout.queries) for layout in layouts)
    of_language, of_diffusion = joined_weights(tokens, pictures)
    return model.config.losses(losses.language * of_language, losses.diffusion * of_diffusion)


def agreed(decision: bool) -> bool:
    """The decision of the first process, on all of them: their clocks differ."""
    if state().num_processes == 1:
        return decision
    number = torch.tensor([int(decision)], device=state().device)
    torch.distributed.broadcast(number, src=0)
    return bool(number.item())


def averaged(losses: dict[str, Tensor]) -> dict[str, float]:
    """Scalars by name, averaged over all processes, which must have the same names.

    If one process has a loss that is not finite, all processes see it, and none waits for another.
    """
    if state().num_processes == 1:
        return {name: value.item() for name, value in losses.items()}
    values = torch.stack([value.detach().float() for value in losses.values()])
    torch.distributed.all_reduce(values)
    return dict(zip(losses, (values / state().num_processes).tolist()))
