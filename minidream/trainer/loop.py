"""The training loop, which is the same for every stage. It runs on accelerate.

A stage (see `stages.py`) says what is trained, on which batches and with which loss. Batches and
noise are a pure function of (seed, step), and a checkpoint holds everything else. A run that was
killed therefore resumes bit for bit, on the same machine with the same number of threads. It may
go on with another number of processes (see `processes.py`).
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from diffusers.training_utils import EMAModel
from tqdm.auto import tqdm

from ..images import as_integer, as_number
from ..weights.files import as_path, check_writable, write_atomically
from . import sharding
from .plans import UNUSABLE, damaged, plan_of, read_checkpoint
from .processes import SharedNoise, agreed, averaged, on_cpu

LINE = 20  # steps for each line of the log; checkpoints are written at the ends of lines


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

    def __post_init__(self):
        for name, least in {"steps": 1, "batch": 1, "warmup": 0}.items():
            as_integer(name, getattr(self, name), least)
        for name in ("learning_rate", "weight_decay", "clip"):
            as_number(name, getattr(self, name), least=0)
        as_number("ema", self.ema, 0, 1)

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step in a run of `steps`: a linear warm-up, then half a cosine."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, steps - self.warmup)
        return self.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def step_seed(seed: int, step: int, process: int = 0) -> int:
    """The seed of the noise in one step of one process. Different steps get different seeds."""
    return ((seed * 1_000_003 + step) * 8191 + process) % 2**62


def made_ahead(make: Callable[[int], Any], steps: range) -> Iterator[Any]:
    """`make(step)` for each step; while a result is used, a thread makes the next one."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        coming = [thread.submit(make, step) for step in steps[:1]]
        for step in steps:
            made = coming.pop().result()
            if step + 1 in steps:
                coming.append(thread.submit(make, step + 1))
            yield made


def fit(
    stage: torch.nn.Module,
    folder: str | Path,
    seed: int = 0,
    steps: int | None = None,
    save_seconds: float = 60.0,
    progress: bool = True,
    built_on: dict[str, str] | None = None,
) -> list[dict]:
    """Trains a stage, or resumes a run that was killed.

    Args:
        stage: a module with `name`, `recipe`, `batch(seed, step, process)` and
            `forward(batch, generator)`, which returns a dict of scalar losses with "total" first.
            The parameters that require a gradient are trained. While one batch is learned, a thread
            makes the next: `batch` may only depend on its arguments and on frozen parameters. Of
            several processes each draws a batch of its own, and their gradients are averaged;
            unless the stage has `share` (see `SharedStage`), with which they share the batch of
            process 0. `prepare(batch)`, if there is one, is what frozen networks make of a batch.
        folder: receives `<name>.checkpoint.pt` and `<name>.jsonl` (a line per 20 steps).
        seed: of all batches and noise.
        steps: the length of the whole run; None takes the recipe's.
        save_seconds: time between two checkpoints, at least 0.
        progress: show a progress bar.
        built_on: what else determines the weights, by name: `plans.parts_used`.

    Returns:
        The log, one dict per line. The stage is left with the moving average (EMA) of its weights.

    Raises:
        TypeError, ValueError: for steps that are not a whole number of at least 1, and for
            `save_seconds` that are not a number of at least 0.
        ValueError: if the folder's checkpoint belongs to a run with other settings, or is damaged.
        OSError: if the log or the checkpoint cannot be written, which is found before the first
            step, or the disk is full.
        FloatingPointError: if a loss or the gradient is not finite (names the loss and the step).
    """
    folder, recipe = as_path(folder), stage.recipe
    save_seconds = as_number("save_seconds", save_seconds, least=0)
    plan = plan_of(recipe, seed, steps, built_on)
    seed, steps = plan["seed"], plan["steps"]
    checkpoint, log_file = folder / f"{stage.name}.checkpoint.pt", folder / f"{stage.name}.jsonl"
    saved = read_checkpoint(checkpoint, plan)
    accelerator = Accelerator(
        cpu=on_cpu(),
        mixed_precision="bf16" if torch.cuda.is_available() else "no",
        # With several processes: a lesson in words alone leaves the dream queries out.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    process, processes = accelerator.process_index, accelerator.num_processes
    sharded = sharding.is_wanted()
    if sharded:
        sharding.shard(stage, accelerator.device)
    trained = [parameter for parameter in stage.parameters() if parameter.requires_grad]
    on_gpu = accelerator.device.type == "cuda"
    optimizer = torch.optim.AdamW(
        trained,
        lr=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        betas=(0.9, 0.98),
        fused=on_gpu,
    )
    # The gradients of weights that are shared out are averaged by the weights themselves.
    wrapped, optimizer = (stage, optimizer) if sharded else accelerator.prepare(stage, optimizer)
    if on_gpu and not sharded:
        stage.to(memory_format=torch.channels_last)  # of convolutions, which tensor cores prefer
    average = EMAModel(trained, decay=recipe.ema)
    average.to(accelerator.device)
    first, log = 0, []
    if saved is not None:
        try:
            saved = sharding.shared_out(saved, trained) if sharded else saved
            with torch.no_grad():
                for parameter, value in zip(trained, saved["trained"], strict=True):
                    parameter.copy_(value)
            optimizer.load_state_dict(saved["optimizer"])
            average.load_state_dict(saved["average"])
        except UNUSABLE as error:
            raise damaged(checkpoint, error) from error
        average.to(accelerator.device)
        first, log = saved["step"], saved["log"]

    def save(step: int) -> None:
        """Writes the log and the checkpoint after a number of steps. All processes call it."""
        state = {
            "settings": plan,
            "step": step,
            "log": log,
            "trained": [parameter.detach() for parameter in trained],
            "optimizer": optimizer.state_dict(),
            "average": average.state_dict(),
        }
        state = sharding.whole(state, accelerator.is_main_process) if sharded else state
        if not accelerator.is_main_process:
            return
        try:
            write_atomically(lambda path: torch.save(state, path), checkpoint)
        except (OSError, RuntimeError) as error:  # torch calls a full disk an "unexpected pos"
            raise OSError(
                f"{checkpoint} could not be written after step {step}; an earlier one, if "
                f"there is any, is kept. Is the disk full? ({error})"
            ) from error
        write_log()

    def write_log() -> None:
        """Writes the log for readers; a resumed run takes it from the checkpoint."""
        if accelerator.is_main_process:
            text = "".join(json.dumps(line) + "\n" for line in log)
            write_atomically(lambda path: path.write_text(text, encoding="utf-8"), log_file)

    def inputs(step: int):
        """What this process learns from in a step: a batch, and a generator of noise."""
        shared = processes > 1 and getattr(stage, "share", None) is not None
        drawn_by = 0 if shared else process
        batch = stage.batch(seed, step, drawn_by)
        generator = torch.Generator().manual_seed(step_seed(seed, step, drawn_by))
        if shared:
            batch, rows = stage.share(batch, slice(process, None, processes))
            generator = SharedNoise(generator, rows)
        prepare = getattr(stage, "prepare", None)
        return prepare(batch) if prepare else batch, generator

    folder.mkdir(parents=True, exist_ok=True)
    if accelerator.is_main_process:  # before any work, so that what cannot be written is found now
        check_writable(checkpoint)
    write_log()
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
    for step, (batch, generator) in zip(bar, made_ahead(inputs, range(first, steps))):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step, steps)
        with accelerator.autocast():
            losses = wrapped(batch, generator)
        accelerator.backward(losses["total"])
        for name, value in averaged(losses).items():
            recent.setdefault(name, []).append(value)
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"stage {stage.name}: the loss {name!r} is {value} at step {step}"
                )
        clip = sharding.clip if sharded else accelerator.clip_grad_norm_
        norm = clip(trained, recipe.clip)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"stage {stage.name}: the gradient is {norm} at step {step}")
        optimizer.step()
        optimizer.zero_grad()
        average.step(trained)
        if (step + 1) % LINE == 0 or step + 1 == steps:
            now = time.perf_counter()
            means = {name: round(sum(values) / len(values), 6) for name, values in recent.items()}
            speed = len(recent["total"]) * recipe.batch / (now - last_line)
            # Four digits: a slow stage has less than one sample in ten seconds.
            speed = float(f"{speed:.4g}")
            rates = {"rate": recipe.rate(step, steps), "samples_per_second": speed}
            log.append({"step": step + 1, **means, **rates})
            bar.set_postfix(loss=f"{means['total']:.4f}")
            recent, last_line = {}, now
            # Only at the end of a line, so that a resumed run writes the same lines.
            if agreed(now - last_save > save_seconds or step + 1 == steps):
                save(step + 1)
                last_save = now
    accelerator.wait_for_everyone()  # what the main process writes is there for all
    average.copy_to(trained)
    stage.eval()
    return log
