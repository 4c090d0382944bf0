"""What all stages of the DreamLLM share: documents in, language loss and denoising loss out."""

import random
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..documents import Document
from ..model import DreamLLM
from ..weights.parts import parts_of
from . import sharding
from .loop import Recipe
from .processes import SharedStage, weighted_losses


class DocumentLosses(SharedStage):
    """A stage whose batches are layouts and documents, as `DreamLLM.loss_of_layouts` takes them.

    Args:
        model: the DreamLLM, whose vision tower and VAE stay frozen.
    """

    def __init__(self, model: DreamLLM):
        super().__init__()
        self.model = model

    def share(self, batch, rows):
        """As `SharedStage.share`; noise has a row for each picture to be painted."""
        own_batch, own = super().share(batch, rows)
        pictures = torch.tensor([len(layout.queries) for layout in batch[0]], device="cpu")
        return own_batch, own.repeat_interleave(pictures)

    def prepare(self, batch):
        """Adds what the frozen vision tower and VAE make of all pictures, in one call of each."""
        return *batch, self.model.features(*batch)

    def forward(self, batch, generator):
        """The losses of the paper's equation 7."""
        layouts, documents, *features = batch  # none, if the batch was not prepared
        nulls = []
        hook = self.model.null_query_states.register_forward_hook(lambda *_: nulls.append(None))
        with hook:
            losses = self.model.loss_of_layouts(layouts, documents, generator, *features)
        # Before processes talk about anything else: all of them gather the same in one order.
        nothing = self.zero(null=not nulls) if sharding.is_wanted() else 0.0
        losses = weighted_losses(self.model, losses, layouts)
        total = losses.total + nothing
        return {"total": total, "language": losses.language, "diffusion": losses.diffusion}

    def shards(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """As `sharding.shard` asks: the layers; and what `prepare` uses before the forward pass."""
        return list(self.model.llm.layers), [self.model.vision.tower, self.model.decoder.vae]

    def zero(self, null: bool) -> Tensor:
        """Zero, with a gradient of zero for what some documents do not use.

        Processes that share weights gather them together, and add up gradients together: all of
        them have to use the same ones, also one whose documents have no picture to paint.

        Args:
            null: whether this process has yet to encode the null condition, as others may have.
        """
        units, _ = self.shards()
        in_units = {id(parameter) for unit in units for parameter in unit.parameters()}
        unused = (each for each in self.parameters() if id(each) not in in_units)
        total = sum(0.0 * each.sum() for each in unused if each.requires_grad)
        if null and self.model.decoder.config.drop_prob:
            states = self.model.encode_null(Document([]), self.model.prompt_layout(""))
            total = total + 0.0 * states.sum()
        return total


# Draws a batch: it takes a source of randomness, the number of documents, and the model.
Task = Callable[[random.Random, int, DreamLLM], tuple]
Turns = tuple[tuple[Task, float], ...]  # each task with its batch size, relative to the recipe's


class TaskStage(DocumentLosses):
    """A stage whose batches are of one task each; the tasks take turns.

    Args:
        name: of the stage.
        model: the DreamLLM. Everything that the stage does not train is frozen.
        recipe: batch size, length and optimizer settings.
        learned: the names of the parts that are trained (see `weights.parts`).
        tasks: those that take turns.
        later_tasks: what takes their place, by the step from which on it does.
    """

    def __init__(
        self,
        name: str,
        model: DreamLLM,
        recipe: Recipe,
        learned: tuple[str, ...],
        tasks: Turns,
        later_tasks: dict[int, Turns] | None = None,
    ):
        super().__init__(model)
        self.name, self.recipe = name, recipe
        self.tasks, self.later_tasks = tasks, later_tasks or {}
        model.requires_grad_(False)
        for part in learned:
            self.parts()[part].requires_grad_(True)

    def batch(self, seed: int, step: int, process: int):
        """Layouts and documents of one task."""
        rng, tasks = random.Random(f"{self.name} {seed} {step} {process}"), self.tasks
        for first, later in self.later_tasks.items():
            tasks = later if step >= first else tasks
        task, share = tasks[step % len(tasks)]
        return task(rng, round(share * self.recipe.batch), self.model)

    def parts(self) -> dict[str, nn.Module]:
        """All parts of the DreamLLM by name."""
        return parts_of(self.model)
