"""One run of one stage: built on the parts of earlier stages, trained, and its own parts saved."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import nn

from ..weights.files import as_path, check_writable, write_figure
from ..weights.parts import files_of, read_log
from .loop import Recipe, fit
from .plans import (
    as_metadata,
    parts_used,
    plan_of,
    plan_of_part,
    read_checkpoint,
    refuse_another,
)
from .processes import state
from .shipping import half, save_part


def run_stage(
    name: str,
    folder: Path,
    build: Callable[[], nn.Module],
    recipe: Recipe,
    seed: int = 0,
    steps: int | None = None,
    progress: bool = True,
) -> None:
    """Trains one stage, unless it has finished, and saves its parts and a figure of its losses.

    If a finished stage has no figure, as after a kill while it was drawn, it is drawn now.

    Args:
        name: of the stage.
        folder: where the parts of earlier stages are, and where everything is saved.
        build: makes the stage, a module that `fit` trains and whose `parts()` are saved.
        recipe: of the stage.
        seed: of initial weights, batches and noise.
        steps: None takes the recipe's number.
        progress: show a progress bar.

    Raises:
        TypeError, ValueError: for steps that are not a whole number of at least 1.
        ValueError: if the stage was trained in this folder with another seed, recipe or number of
            steps, or on other parts of earlier stages (both); if a part is damaged (names it).
        FileNotFoundError: if a part of an earlier stage is missing.
        OSError: if a part cannot be written, before the first step; and as `fit`.
    """
    main = state().is_main_process
    figure, log_file = folder / f"{name}.png", folder / f"{name}.jsonl"
    files, built_on = files_of(name, folder), parts_used(name, folder)
    if has_finished(name, folder, recipe, seed, steps):
        known = all(plan_of_part(path) for path in files.values())
        note = "" if known else "; with which steps and seed is not known"
        if main:
            print(
                f"{name}: finished before ({', '.join(path.name for path in files.values())}){note}"
            )
            if log_file.exists() and not figure.exists():
                write_figure(partial(losses_figure, log_file, name), figure)
        return
    stage = build()
    for path in files.values() if main else ():
        check_writable(path)
    fit(stage, folder, seed, steps, progress=progress, built_on=built_on)
    if main:
        metadata = as_metadata(plan_of(recipe, seed, steps, built_on), name)
        for part, path in files.items():
            tensors = stage.parts()[part].state_dict()
            tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
            save_part(half(tensors), path, metadata)  # as it ships, and as later stages read it
        write_figure(partial(losses_figure, log_file, name), figure)
    state().wait_for_everyone()


def has_finished(
    name: str, folder: str | Path, recipe: Recipe, seed: int = 0, steps: int | None = None
) -> bool:
    """Whether a stage has left all its parts; arguments as `run_stage`.

    Raises:
        TypeError, ValueError: as `run_stage`; a checkpoint of another run is refused too.
    """
    folder = as_path(folder)
    files = files_of(name, folder).values()
    plan = plan_of(recipe, seed, steps, parts_used(name, folder))
    for path in filter(Path.exists, files):
        refuse_another(path, plan_of_part(path), plan)
    finished = all(path.exists() for path in files)
    if not finished:
        read_checkpoint(folder / f"{name}.checkpoint.pt", plan)
    return finished


def losses_figure(log_file: Path, name: str):
    """The losses of a stage, as a figure."""
    from ..plots import plot_losses  # not earlier: with a wrong MPLBACKEND this import fails

    return plot_losses(read_log(log_file), name)
