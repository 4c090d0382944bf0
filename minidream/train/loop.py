"""The training loop, which is the same for every stage. It runs on accelerate.

A stage (see `stages.py`) says what is trained, on which batches and with which loss. Batches and
noise are a pure function of (seed, step), and a checkpoint holds everything else. A run that was
killed therefore resumes bit for bit, on the same machine with the same number of threads.
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
    """The length, batch size and optimizer settings of a stage."""

    steps: int
    batch: int
    learning_rate: float
    weight_decay: float = 0.01
    warmup: int = 100  # steps, followed by a cosine decay to a twentieth of the learning rate
    ema: float = 0.998  # decay of the moving average of the weights, which is what a stage saves
    clip: float = 1.0  # maximum norm of the gradient

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step in a run of `steps`: a linear warm-up, then half a cosine."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, steps - self.warmup)
        return self.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def step_seed(seed: int, step: int, process: int = 0) -> int:
    """The seed of the noise in one step of one process. Different steps get different seeds."""
    return ((seed * 1_000_003 + step) * 8191 + process) % 2**62


def fit(
    stage: torch.nn.Module,
    folder: str | Path,
    seed: int = 0,
    steps: int | None = None,
    save_seconds: float = 60.0,
    progress: bool = True,
) -> list[dict]:
    """Trains a stage, or resumes a run that was killed.

    Args:
        stage: a module with `name`, `recipe`, `batch(seed, step, process)` and
            `forward(batch, generator)`, which returns a dict of scalar losses with "total" first.
            The parameters that require a gradient are trained.
        folder: receives `<name>.checkpoint.pt` and `<name>.jsonl` (a line per 20 steps).
        seed: of all batches and noise.
        steps: the length of the whole run; None takes the recipe's.
        save_seconds: time between two checkpoints.
        progress: show a progress bar.

    Returns:
        The log, one dict per line. The stage is left with the moving average (EMA) of its weights.

    Raises:
        ValueError: if the folder's checkpoint belongs to a run with other settings.
        FloatingPointError: if a loss is not finite (names the loss and the step).
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
    settings = {**asdict(recipe), "seed": seed, "steps": steps}
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        if saved["settings"] != settings:
            raise ValueError(
                f"{checkpoint} belongs to another run ({saved['settings']}, not {settings}); "
                "delete it or choose another folder"
            )
        with torch.no_grad():
            for parameter, value in zip(trained, saved["trained"], strict=True):
                parameter.copy_(value)
        optimizer.load_state_dict(saved["optimizer"])
        average.load_state_dict(saved["average"])
        average.to(accelerator.device)
        first = saved["step"]
        lines = map(json.loads, log_file.read_text(encoding="utf-8").splitlines())
        log = [line for line in lines if line["step"] <= first]

    def save(step: int) -> None:
        """Writes the log and the checkpoint after a number of steps."""
        if not accelerator.is_main_process:
            return
        state = {
            "settings": settings,
            "step": step,
            "trained": [parameter.detach() for parameter in trained],
            "optimizer": optimizer.state_dict(),
            "average": average.state_dict(),
        }
        # The log comes first: a kill between the two writes leaves extra lines in it, which the
        # next start drops.
        text = "".join(json.dumps(line) + "\n" for line in log)
        write_atomically(lambda path: path.write_text(text, encoding="utf-8"), log_file)
        write_atomically(lambda path: torch.save(state, path), checkpoint)

    stage.train()
    recent = {}  # losses since the last line of the log; a stage need not report all in every step
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
            recent.setdefault(name, []).append(value.item())
            if not math.isfinite(value.item()):
                raise FloatingPointError(
                    f"stage {stage.name}: the loss {name!r} is {value.item()} at step {step}"
                )
        if (step + 1) % 20 == 0 or step + 1 == steps:
            now = time.perf_counter()
            means = {name: round(sum(values) / len(values), 6) for name, values in recent.items()}
            speed = len(recent["total"]) * recipe.batch / (now - last_line)
            rates = {"rate": recipe.rate(step, steps), "samples_per_second": round(speed, 1)}
            log.append({"step": step + 1, **means, **rates})
            bar.set_postfix(loss=f"{means['total']:.4f}")
            recent, last_line = {}, now
            # Only at the end of a line, so that a resumed run writes the same lines.
            if now - last_save > save_seconds or step + 1 == steps:
                save(step + 1)
                last_save = now
    average.copy_to(trained)
    stage.eval()
    return log
