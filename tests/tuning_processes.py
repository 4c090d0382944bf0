"""What test_tuning_processes.py runs in several processes.

`torchrun --nproc-per-node 2 tuning_processes.py begin FOLDER MODEL DATA` leaves what it saw in
FOLDER, and `... "go on" FOLDER MODEL DATA` goes on with the runs that are there.
"""

import os
import sys
from pathlib import Path

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from tuning_shared import tune

from minidream.trainer import loop, sharding
from minidream.tuning.stream import Stream

PROCESS = int(os.environ.get("RANK", 0))
# A word is new, pictures are read and painted, and conditions are dropped in training.
OPTIONS = [
    *("--learn", "lora", "projectors", "--words", "rocket", "--both-ways"),
    *("--learning-rate", "1e-3", "--save-seconds", "0"),
]


def run(folder: Path, model: str, data: Path, steps: int, stops: int | None = None) -> list:
    """A run of the command.

    Args:
        folder, model, data: of the run.
        steps: its length.
        stops: the step before which it is broken off; None is none.

    Returns:
        The gradients of each step that was made, {name of the parameter: gradient}.
    """
    gradients, batch = [], Stream.batch

    def note(optimizer, *_) -> None:
        learned = [each for group in optimizer.param_groups for each in group["params"]]
        found = [sharding.whole(each.grad) for each in learned if each.grad is not None]
        gradients.append([None if each is None else each.clone() for each in found])

    def stopped(stream, step, size):
        if step == stops and size == 5:
            raise KeyboardInterrupt
        return batch(stream, step, size)

    hook, Stream.batch = register_optimizer_step_pre_hook(note), stopped
    line, loop.LINE = loop.LINE, 2  # so that short runs have checkpoints
    try:
        tune(folder, data, "--model", model, *OPTIONS, "--batch", "5", "--steps", str(steps))
    except KeyboardInterrupt:
        pass
    finally:
        hook.remove()
        Stream.batch, loop.LINE = batch, line
    return gradients


def share_out() -> None:
    """From now on, processes share out the weights, as accelerate's config asks for."""
    os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


def main(folder: Path, model: str, data: Path) -> None:
    """A whole short run, one that is broken off after a checkpoint, and, shared out, both again."""
    seen = {"whole": run(folder / "whole", model, data, steps=2)}
    run(folder / "stopped", model, data, steps=4, stops=3)
    share_out()
    seen["shared out"] = run(folder / "shared", model, data, steps=2)
    run(folder / "shared, stopped", model, data, steps=4, stops=3)
    torch.save(seen, folder / f"seen-{PROCESS}.pt")


def go_on(folder: Path, model: str, data: Path) -> None:
    """Goes on with two runs that were broken off; the second time, shared out."""
    run(folder / "whole", model, data, steps=4)
    share_out()
    run(folder / "shared", model, data, steps=4)


if __name__ == "__main__":
    torch.set_num_threads(1)
    does, *given = sys.argv[1:]
    {"begin": main, "go on": go_on}[does](
        *(kind(each) for kind, each in zip((Path, str, Path), given))
    )
