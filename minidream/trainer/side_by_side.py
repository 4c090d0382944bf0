"""Several stages at once, each in a process of its own with a share of the cores.

A small model does not use two cores twice as well as one, so two stages side by side take less time
than one after the other.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from tqdm.auto import tqdm

from ..weights.parts import LEAVES, NEEDS, ORDER, read_log


def built_on(name: str) -> set[str]:
    """The stages whose parts a stage starts from."""
    earlier = ORDER[: ORDER.index(name)]
    sources = (
        [stage for stage in earlier if part in LEAVES[stage]] for part in NEEDS.get(name, ())
    )
    return {stages[-1] for stages in sources if stages}


def waiting_for(name: str) -> set[str]:
    """The stages that cannot start before a stage has finished, directly or not."""
    direct = {later for later in ORDER if name in built_on(later)}
    return direct.union(*(waiting_for(later) for later in direct))


def command_of(folder: Path, seed: int, steps: int | None, compiled: bool) -> list[str]:
    """The command that trains a stage, to which its name is to be added."""
    options = ["--folder", str(folder), "--seed", str(seed), "--quiet"]
    options += ["--compile"] * compiled + (["--steps", str(steps)] if steps else [])
    return [sys.executable, "-m", "minidream.train", *options]


def run_side_by_side(
    names: tuple[str, ...],
    jobs: int,
    command: list[str],
    folder: Path,
    steps: dict[str, int],
    progress: bool = True,
    every: float = 2.0,
) -> None:
    """Runs stages, as many at once as there are jobs; each starts when those before it finished.

    Those that most others wait for come first. Each process gets an equal share of the cores.

    Args:
        names: of the stages; those that they are built on are among them or have finished.
        jobs: how many run at once, at least 1.
        command: of a stage, to which its name is added.
        folder: where the stages write their logs.
        steps: of each stage, for the progress bar.
        progress: show a progress bar.
        every: seconds between two looks at the processes.

    Raises:
        RuntimeError: if a stage ends with an error (names it, and how it ended). The others are
            stopped then; they go on from their last checkpoints when the command is run again.
    """
    cores = os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count()
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, cores // jobs))}
    left = sorted(names, key=lambda name: (-len(waiting_for(name)), ORDER.index(name)))
    running: dict[str, subprocess.Popen] = {}
    bar = tqdm(total=sum(steps[name] for name in names), unit="step", disable=not progress)
    try:
        while left or running:
            unfinished = {*left, *running}
            for name in [name for name in left if not built_on(name) & unfinished]:
                if len(running) < jobs:
                    left.remove(name)
                    running[name] = subprocess.Popen([*command, name], env=environment)
            bar.set_description(" + ".join(running))
            bar.n = sum(steps_done(name, folder, steps) for name in names if name not in left)
            bar.refresh()
            time.sleep(every)
            for name, process in list(running.items()):
                if process.poll() is None:
                    continue
                del running[name]
                if process.returncode:
                    raise RuntimeError(f"stage {name} ended with the status {process.returncode}")
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
        bar.close()


def steps_done(name: str, folder: Path, steps: dict[str, int]) -> int:
    """How many steps of a stage are in its log."""
    try:
        return min(steps[name], read_log(folder / f"{name}.jsonl")[-1]["step"])
    except (OSError, ValueError):  # it has not written anything yet
        return 0
