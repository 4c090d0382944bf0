"""What a run was made with: kept in its checkpoint and in every part that it leaves.

A plan is a flat dict: the fields of the recipe, the seed, the number of steps that was asked for,
and the parts of earlier stages that the run was built on. A run goes on, or counts as finished,
under the plan that it was started with, and no other.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import safe_open

from ..images import LEAST_SEED, MOST_SEED, as_integer
from ..weights.files import check_file
from ..weights.parts import NEEDS, part_file
from ..weights.scanning import DAMAGED


def plan_of(recipe, seed: int = 0, steps: int | None = None, built_on: dict | None = None) -> dict:
    """The plan of one run.

    Args:
        recipe: of the stage, a `Recipe`.
        seed: of initial weights, batches and noise.
        steps: the length of the run; None takes the recipe's.
        built_on: the parts of earlier stages, as `parts_used` describes them.

    Raises:
        TypeError, ValueError: for a seed that torch does not take, and for steps that are not a
            whole number of at least 1.
    """
    steps = as_integer("steps", recipe.steps if steps is None else steps, least=1)
    seed = as_integer("seed", seed, LEAST_SEED, MOST_SEED)
    return {**asdict(recipe), "seed": seed, "steps": steps, **(built_on or {})}


def refuse_another(path: Path, stored: dict, asked: dict) -> None:
    """Compares the plan that a file was made with to the one that is asked for.

    What only one of them names is not compared: older files do not say what they were built on.

    Raises:
        ValueError: if they differ (the file, and both values of everything that differs).
    """
    different = [name for name in stored if name in asked and stored[name] != asked[name]]
    if different:
        theirs, ours = ({name: plan[name] for name in different} for plan in (stored, asked))
        stage = path.name.split(".")[0]
        raise ValueError(
            f"{path} belongs to another run ({theirs}, not {ours}): ask for the same, choose "
            f"another folder, or delete {stage}.* there to train {stage} again"
        )


# --------------------------------------------------------------------------------------------------
# Plans in the headers of parts


def as_metadata(plan: dict, stage: str) -> dict[str, str]:
    """A plan, with the name of its stage, as the metadata of a safetensors file."""
    # One entry, as safetensors writes several in any order, and files could not be compared.
    return {"plan": json.dumps({"stage": stage, **plan})}


def metadata_of(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty if it has none.

    Raises:
        ValueError: if the file is empty, a Git LFS pointer or damaged (names it).
    """
    check_file(path)
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except DAMAGED as error:
        raise ValueError(f"{path} cannot be read, it may be cut short: {error}") from error


def plan_of_part(path: Path) -> dict:
    """The plan that a part was made with; empty if it does not say, as in older files.

    Raises:
        ValueError: if the file is damaged, or says something else than a plan (names it).
    """
    text = metadata_of(path).get("plan", "{}")
    try:
        plan = json.loads(text)
    except json.JSONDecodeError:
        plan = None
    if not isinstance(plan, dict):
        raise ValueError(f"{path} is damaged: in place of its plan it says {text!r:.60}")
    return plan


def parts_used(stage: str, folder: Path) -> dict[str, str]:
    """What a stage is built on: {file of a part of an earlier stage: what is in it}.

    A file is described by the steps and the seed that it was trained with and a hash of its
    tensors. Files that are missing are left out.

    Raises:
        ValueError: if one of them is damaged (names it).
    """
    used = {}
    for part in NEEDS.get(stage, ()):
        try:
            path = part_file(folder, part, stage)
        except FileNotFoundError:
            continue
        plan = plan_of_part(path)
        steps, seed = (plan.get(name, "unknown") for name in ("steps", "seed"))
        used[path.name] = f"steps {steps}, seed {seed}, tensors {hash_of_tensors(path)}"
    return used


def hash_of_tensors(path: Path) -> str:
    """A hash of a safetensors file without its header."""
    with path.open("rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


# --------------------------------------------------------------------------------------------------
# Plans in checkpoints

# What a checkpoint holds, and what can go wrong when it is read or when a run goes on from it.
HOLDS = {
    **{"settings": dict, "step": int, "log": list},
    **{"trained": list, "optimizer": dict, "average": dict},
}
UNUSABLE = (*DAMAGED, UnpicklingError)


def read_checkpoint(path: Path, plan: dict) -> dict | None:
    """The checkpoint of a run, None if there is none yet.

    Raises:
        ValueError: if it was made under another plan, or cannot be read.
    """
    if not path.exists():
        return None
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        for name, kind in HOLDS.items():
            if not isinstance(saved[name], kind):
                raise TypeError(f"{name!r} is a {type(saved[name]).__name__}")
    except UNUSABLE as error:
        raise damaged(path, error) from error
    refuse_another(path, saved["settings"], plan)
    return saved


def damaged(path: Path, error: Exception) -> ValueError:
    """What to raise for a checkpoint with which a run cannot go on, and why."""
    return ValueError(
        f"{path} is damaged, or of an older version ({type(error).__name__}: {error}): "
        "delete it to train from the start"
    )
