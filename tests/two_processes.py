"""What test_train_processes.py trains with one process and with two.

`torchrun --nproc-per-node 2 two_processes.py FOLDER` leaves what each process saw in FOLDER.
"""

import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.optim.optimizer import register_optimizer_step_pre_hook

from minidream.images import draw
from minidream.tokenizers import ToyTokenizer
from minidream.train import __main__ as command_line
from minidream.train import clip_stages, pretraining, stages
from minidream.trainer.loop import Recipe, fit
from minidream.trainer.processes import SharedStage, joined_weights
from minidream.weights import parts, toy
from minidream.world.language import VOCABULARY

PROCESS = int(os.environ.get("RANK", 0))
TOKENIZER = ToyTokenizer(VOCABULARY)


def document_stage(name: str) -> stages.DocumentStage:
    """A stage of the DreamLLM on an untrained model."""
    return stages.DocumentStage(name, toy.new_model(TOKENIZER))


def text() -> torch.nn.Module:
    """An untrained text tower."""
    return toy.new_clip(len(TOKENIZER))[1].requires_grad_(False)


# Stage -> (what builds it, batch size, steps): the steps have every kind of task, and most batches
# cannot be halved.
STAGES: dict[str, tuple[Callable[[], torch.nn.Module], int, int]] = {
    "judge": (pretraining.JudgeStage, 5, 1),
    "vae": (pretraining.VaeStage, 3, 1),
    "text": (lambda: clip_stages.TextStage(TOKENIZER), 5, 1),
    "unet": (lambda: pretraining.UnetStage(toy.new_vae(), text(), TOKENIZER, pool_size=20), 5, 1),
    "clip": (lambda: clip_stages.ClipStage(text(), TOKENIZER), 6, 2),
    "llm": (lambda: document_stage("llm"), 3, 1),
    "stage1": (lambda: document_stage("stage1"), 5, 2),
    "stage2": (lambda: document_stage("stage2"), 15, 4),
    "stage3": (lambda: document_stage("stage3"), 9, 2),
}


def gradients_of(name: str, folder: Path) -> dict:
    """Trains a stage at a rate of 0, so that every step starts from the same weights.

    Returns:
        "gradients": of all steps, {name of the parameter: gradient}; "log"; and "samples", the
        number of them that this process saw in each step.
    """
    builder, batch, steps = STAGES[name]
    torch.manual_seed(0)
    stage = builder()
    stage.recipe = replace(stage.recipe, batch=batch, learning_rate=0.0, clip=1e9)
    gradients, samples = [], []

    def note(*_) -> None:
        gradients.append(
            {
                key: parameter.grad.clone()
                for key, parameter in stage.named_parameters()
                if parameter.grad is not None
            }
        )

    def count(_, inputs) -> None:
        content = inputs[0] if isinstance(inputs[0], torch.Tensor) else inputs[0][0]
        samples.append(len(content))

    hooks = [register_optimizer_step_pre_hook(note), stage.register_forward_pre_hook(count)]
    log = fit(stage, folder / name, steps=steps, progress=False)
    for hook in hooks:
        hook.remove()
    return {"gradients": gradients, "log": log, "samples": samples}


class TwoHeads(torch.nn.Module):
    """A stage without `share`: each process has its own rows, and its steps use one head in turn.

    Args:
        processes: whose rows one process takes.
        broken: the process whose loss is not a number in step 3; None is none.
    """

    name = "two-heads"
    recipe = Recipe(steps=40, batch=4, learning_rate=1e-2, warmup=5)

    def __init__(self, processes: list[int], broken: int | None = None):
        super().__init__()
        torch.manual_seed(0)
        self.heads = torch.nn.ModuleList(torch.nn.Linear(3, 2) for _ in range(2))
        self.processes, self.broken = processes, broken

    def batch(self, seed, step, process):
        """Four rows for each process."""
        generators = [
            torch.Generator().manual_seed(1000 * seed + 10 * step + process + other)
            for other in self.processes
        ]
        rows = [torch.randn(4, 3, generator=generator) for generator in generators]
        return torch.cat(rows), step, process

    def forward(self, batch, generator):
        """How far one head is from the first two numbers of a row."""
        rows, step, process = batch
        loss = (self.heads[step % 2](rows) - rows[:, :2]).square().mean()
        return {"total": loss * torch.nan if step == 3 and process == self.broken else loss}


class Line(SharedStage):
    """A stage with `share`: its rows have weights, and noise is added to them.

    Args:
        stops: the step before which the run is broken off; None is none.
    """

    name = "line"
    recipe = Recipe(steps=40, batch=7, learning_rate=1e-2, warmup=5)

    def __init__(self, stops: int | None = None):
        super().__init__()
        torch.manual_seed(0)
        self.line, self.stops = torch.nn.Linear(3, 2), stops

    def batch(self, seed, step, process):
        """Rows and their weights."""
        if step == self.stops:
            raise KeyboardInterrupt
        generator = torch.Generator().manual_seed(1000 * seed + 10 * step + process)
        return torch.randn(7, 3, generator=generator), torch.rand(7, generator=generator)

    def forward(self, batch, generator):
        """How far the line is from the first two numbers of a row: a weighted mean."""
        rows, weights = batch
        noisy = rows + 0.1 * draw(torch.randn, rows.shape, generator)
        errors = (self.line(noisy) - rows[:, :2]).square().mean(dim=1)
        (share,) = joined_weights(weights.sum())
        return {"total": (errors * weights).sum() / weights.sum() * share}


def small_recipes() -> None:
    """Recipes of eight samples."""
    for name, recipe in stages.RECIPES.items():
        stages.RECIPES[name] = replace(recipe, batch=8)


def untrained_parts(folder: Path) -> None:
    """Writes the parts of all stages before stage III, as if they were trained."""
    torch.manual_seed(1)
    folder.mkdir(parents=True, exist_ok=True)
    modules = parts.parts_of(toy.new_model(TOKENIZER))
    for part in parts.NEEDS["stage3"]:
        source = [name for name in parts.ORDER[:-1] if part in parts.LEAVES[name]][-1]
        save_file(modules[part].state_dict(), folder / f"{source}.{part}.safetensors")


def main(folder: Path) -> None:
    """Everything that two processes do."""
    torch.set_num_threads(1)
    seen = {name: gradients_of(name, folder) for name in STAGES}
    stage = TwoHeads([0])
    fit(stage, folder / "joined", progress=False)
    seen["two heads"] = stage.state_dict()
    try:
        fit(TwoHeads([0], broken=1), folder / "broken", progress=False)
    except FloatingPointError as error:
        seen["error"] = str(error)
    try:
        fit(Line(stops=25), folder / "stopped", save_seconds=0, progress=False)
    except KeyboardInterrupt:
        pass
    small_recipes()
    printed = StringIO()
    with redirect_stdout(printed):
        for _ in range(2):
            arguments = ["stage3", "--folder", str(folder / "toy"), "--steps", "3", "--quiet"]
            command_line.main(arguments)
    seen["printed"] = printed.getvalue()
    torch.save(seen, folder / f"seen-{PROCESS}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
