"""From the parts that stages left to what ships with the package."""

import json
import shutil
from functools import partial
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from ..weights import PRETRAINED, write_folder
from ..weights.files import as_path, write_atomically
from ..weights.layout import OTHER_RUNS
from ..weights.parts import (
    FROZEN,
    NEEDS,
    ORDER,
    PAPERS_STAGES,
    SHIPPED,
    assemble,
    files_of,
    part_file,
    read_log,
)
from .plans import metadata_of, parts_used, plan_of_part, refuse_another


def take_pretrained(source: str | Path, folder: str | Path) -> None:
    """Copies what the stages before stage I left into another folder, for a run of another seed.

    Args:
        source: where these stages have finished.
        folder: where stages I to III will be trained; files that it has already must be the same.

    Raises:
        FileNotFoundError: if one of these stages has not finished (names it).
        ValueError: if the folder has another file of that name.
    """
    source, folder = as_path(source), as_path(folder)
    files = {path: folder / path.name for path in pretrained_files(source)}
    for path, own in files.items():
        if own.exists() and own.read_bytes() != path.read_bytes():
            raise ValueError(f"{own} is another file than {path}: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for path, own in files.items():
        if not own.exists():
            write_atomically(partial(shutil.copyfile, path), own)


def pretrained_files(folder: Path) -> list[Path]:
    """The parts that stages I to III start from."""
    needed = dict.fromkeys(part for stage in PAPERS_STAGES for part in NEEDS[stage])
    before = [part for part in needed if part in (*FROZEN, "llm")]
    return [part_file(folder, part, PAPERS_STAGES[0]) for part in before]


def ship(folder: str | Path, others: tuple[Path, ...] = (), to: Path = PRETRAINED) -> None:
    """Writes the results of all stages into the package, in half precision.

    These are the DreamLLM in the official layout with its plugins as safetensors files; the judge,
    the toy CLIP's text tower and its visual projection; the parts that intermediate stages left;
    and `training.json`, a summary of the logs. Of every other run, only the parts that stages I to
    III train are written, into a folder of its own: "toy-1", "toy-2".

    Args:
        folder: where all stages have finished.
        others: where stages I to III have finished on the same pretrained parts, from other seeds.
        to: where the folders are written.

    Raises:
        FileNotFoundError: if a stage has not finished.
        ValueError: if the package has other runs than those given, which would be of another toy;
            if a stage was trained on other parts than those in the folder, if another run
            has other pretrained parts, if there are more of them than names, or if a log is
            damaged.
    """
    folder, others = as_path(folder), [as_path(other) for other in others]
    if len(others) > len(OTHER_RUNS):
        raise ValueError(f"{len(others)} other runs were given; there are names for {OTHER_RUNS}")
    for name in OTHER_RUNS[len(others) :]:
        if (to / name).exists():
            raise ValueError(
                f"{to / name} holds a run of the toy that is to be replaced, and {len(others)} of "
                f"{len(OTHER_RUNS)} other runs were given: give one for it too, or remove it"
            )
    # Everything is read first, so that nothing is written if something is missing.
    check_built_on(folder, ORDER)
    for other in others:
        check_built_on(other, PAPERS_STAGES)
        for path in pretrained_files(folder):
            if path.read_bytes() != (other / path.name).read_bytes():
                raise ValueError(f"{other / path.name} is another file than {path}")
    names = ("judge", "clip_text", "clip_visual_projection")
    sources = {f"{part}.safetensors": part_file(folder, part) for part in names}
    for stage in SHIPPED:
        for path in files_of(stage, folder).values():
            sources[f"stages/{path.name}"] = path
    training = summary(folder, ORDER) | {
        name: summary(other, PAPERS_STAGES) for name, other in zip(OTHER_RUNS, others)
    }

    def write_others(place: Path) -> None:
        for name, source in sources.items():
            copy_part(source, place / name)
        text = json.dumps(training, indent=1) + "\n"
        (place / "training.json").write_text(text, encoding="utf-8")

    write_folder(assemble(folder).half(), to / "toy", ".safetensors", write_others=write_others)
    for path in (to / "toy" / "stages").glob("*.safetensors"):
        if f"stages/{path.name}" not in sources:
            path.unlink()  # of a stage that is not shipped any more
    for name, other in zip(OTHER_RUNS, others):
        for path in files_of("stage3", other).values():
            copy_part(path, to / name / path.name)


def check_built_on(folder: Path, names: tuple[str, ...]) -> None:
    """Refuses a folder in which a stage was trained on other parts than those that are there."""
    for name in names:
        for path in files_of(name, folder).values():
            if not path.exists():
                command = f"python -m minidream.train {name}"
                raise FileNotFoundError(f"{path} is missing: run `{command}` first")
            refuse_another(path, plan_of_part(path), parts_used(name, folder))


def copy_part(source: Path, to: Path) -> None:
    """Writes a part once more, in half precision, with its plan."""
    to.parent.mkdir(parents=True, exist_ok=True)
    save_part(half(load_file(source)), to, metadata_of(source))


def summary(folder: Path, names: tuple[str, ...]) -> dict:
    """Steps, batch size, minutes and final losses of stages, from the logs in a folder.

    The losses are means over the last ten lines of a log.

    Raises:
        ValueError: for a log that is empty or damaged (names it).
    """
    found = {}
    for name in names:
        log = read_log(folder / f"{name}.jsonl")
        batch = plan_of_part(next(iter(files_of(name, folder).values())))["batch"]
        ends = [line["step"] for line in log]
        steps = [end - before for end, before in zip(ends, [0, *ends])]
        seconds = sum(count * batch / line["samples_per_second"] for count, line in zip(steps, log))
        last = log[-10:]
        losses = {
            key: round(sum(line[key] for line in last) / len(last), 4)
            for key in log[0]
            if key not in ("step", "rate", "samples_per_second")
        }
        found[name] = {
            "steps": ends[-1],
            "batch": batch,
            "minutes": round(seconds / 60, 1),
            "losses": losses,
        }
    return found


def save_part(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Writes a safetensors file atomically."""
    write_atomically(lambda temporary: save_file(tensors, temporary, metadata), path)


def half(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors in half precision, except those of integers."""
    return {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }
