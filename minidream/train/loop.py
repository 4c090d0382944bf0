"""Training: one loop for every stage, on accelerate; and the command line.

A stage (see `stages.py`) says what is trained, on which batches, with which loss. The loop does the rest. Batches and
noise are a pure function of (seed, step), and a checkpoint holds everything else, so a run that was killed goes on
exactly as if nothing had happened: bit for bit, on the same machine with the same number of threads.
"""

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from tqdm.auto import tqdm

from ..weights.files import write_atomically


@dataclass(frozen=True)
class Recipe:
    """How long and how fast a stage learns."""

    steps: int
    batch: int
    learning_rate: float
    weight_decay: float = 0.01
    warmup: int = 100  # steps; then cosine decay to a twentieth of the rate
    ema: float = 0.998  # decay of the average of the weights, which is what the stage leaves behind
    clip: float = 1.0  # greatest norm of the gradient
    horizon: int | None = None  # steps after which the cosine would end; None is the end of the run

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step in a run of `steps`: linear warm-up, then half a cosine."""
        steps = self.horizon or steps
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, steps - self.warmup)
        return self.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def step_seed(seed: int, step: int, process: int = 0) -> int:
    """One number for (seed, step, process), so that neighbouring steps share no noise."""
    return ((seed * 1_000_003 + step) * 8191 + process) % 2**62


def fit(
    stage: torch.nn.Module,
    folder: str | Path,
    seed: int = 0,
    steps: int | None = None,
    save_seconds: float = 60.0,
    progress: bool = True,
) -> list[dict]:
    """Trains a stage, or goes on where a killed run stopped.

    Args:
        stage: a module with `name`, `recipe`, `batch(seed, step, process)`, `forward(batch, generator)` -> dict of
            scalar losses with "total" first. What requires a gradient is trained.
        folder: where `<name>.checkpoint.pt`, `<name>.jsonl` (a line per 20 steps) and `<name>.png` go.
        seed: of all batches and noise.
        steps: how many in all; None is the recipe's.
        save_seconds: how often a checkpoint is written.
        progress: show a bar.

    Returns:
        The log, one dict per line. The stage holds the averaged (EMA) weights at the end.
    """
    folder, recipe = Path(folder), stage.recipe
    folder.mkdir(parents=True, exist_ok=True)
    steps = steps or recipe.steps
    checkpoint, log_file = folder / f"{stage.name}.checkpoint.pt", folder / f"{stage.name}.jsonl"
    accelerator = Accelerator(mixed_precision="bf16" if torch.cuda.is_available() else "no")
    trained = [parameter for parameter in stage.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98)
    )
    wrapped, optimizer = accelerator.prepare(stage, optimizer)
    average = EMAModel(trained, decay=recipe.ema)
    average.to(accelerator.device)
    first, log = 0, []
    plan = {"seed": seed, "steps": steps, **asdict(recipe)}
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        if saved["plan"] != plan:
            raise ValueError(
                f"{checkpoint} belongs to another run ({saved['plan']}, not {plan}); delete it or choose another folder"
            )
        with torch.no_grad():
            for parameter, value in zip(trained, saved["trained"], strict=True):
                parameter.copy_(value)
        optimizer.load_state_dict(saved["optimizer"])
        average.load_state_dict(saved["average"])
        average.to(accelerator.device)
        first = saved["step"]
        log = [
            line
            for line in map(json.loads, log_file.read_text().splitlines())
            if line["step"] <= first
        ]

    def save(step: int) -> None:
        if not accelerator.is_main_process:
            return
        state = {
            "plan": plan,
            "step": step,
            "trained": [parameter.detach() for parameter in trained],
            "optimizer": optimizer.state_dict(),
            "average": average.state_dict(),
        }
        # The log first: a kill between the two leaves lines too many, which the next start drops.
        write_atomically(
            lambda path: path.write_text("".join(json.dumps(line) + "\n" for line in log)), log_file
        )
        write_atomically(lambda path: torch.save(state, path), checkpoint)

    stage.train()
    seen = {}  # losses since the last line; a stage may give some of them only now and then
    last_save = last_line = time.perf_counter()
    bar = tqdm(
        range(first, steps),
        initial=first,
        total=steps,
        desc=stage.name,
        disable=not progress or not accelerator.is_main_process,
    )
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step, steps)
        process = accelerator.process_index
        generator = torch.Generator().manual_seed(step_seed(seed, step, process))
        losses = wrapped(stage.batch(seed, step, process), generator)
        accelerator.backward(losses["total"])
        accelerator.clip_grad_norm_(trained, recipe.clip)
        optimizer.step()
        optimizer.zero_grad()
        average.step(trained)
        for name, value in losses.items():
            seen.setdefault(name, []).append(value.item())
            if not math.isfinite(value.item()):
                raise FloatingPointError(
                    f"stage {stage.name}: the loss {name!r} is {value.item()} at step {step}"
                )
        if (step + 1) % 20 == 0 or step + 1 == steps:
            now = time.perf_counter()
            log.append(
                {
                    "step": step + 1,
                    **{name: round(sum(values) / len(values), 6) for name, values in seen.items()},
                    "rate": recipe.rate(step, steps),
                    "samples_per_second": round(
                        len(seen["total"]) * recipe.batch / (now - last_line), 1
                    ),
                }
            )
            bar.set_postfix(loss=f"{log[-1]['total']:.4f}")
            seen, last_line = {}, now
            # Only where a line ends, so that a resumed run writes the same lines.
            if now - last_save > save_seconds or step + 1 == steps:
                save(step + 1)
                last_save = now
    average.copy_to(trained)
    stage.eval()
    return log
