"""The parts that training stages leave, and DreamLLMs put together from them."""

import json
from pathlib import Path

import torch
from torch import nn

from ..model import DreamLLM
from ..tokenizers import ToyTokenizer
from ..world.language import VOCABULARY
from . import toy
from .files import as_path
from .layout import PRETRAINED, DreamQueriesModule
from .reading import read_folder
from .scanning import map_tensors

# The stages in order, and the parts that each leaves as `<stage>.<part>.safetensors`. A stage takes
# each part that it needs from the last earlier stage that leaves it.
LEAVES = {
    "judge": ("judge",),
    "vae": ("vae",),
    "text": ("clip_text",),
    "unet": ("unet",),
    "clip": ("clip_vision", "clip_text", "clip_visual_projection"),
    "llm": ("llm",),
    "lookup": ("llm",),
    "stage1": ("visual_projector", "dream_queries", "condition_projector"),
    "stage2": ("llm", "visual_projector", "dream_queries", "condition_projector"),
    "stage3": ("llm", "visual_projector", "dream_queries", "condition_projector"),
}

ORDER = tuple(LEAVES)
PAPERS_STAGES = ORDER[-3:]  # I, II and III; those before make what the paper starts from

# The parts that the paper's stages never train.
FROZEN = ("clip_vision", "vae", "unet")

# The parts that each stage starts from; those that are not named start from nothing.
NEEDS = {
    "unet": ("vae", "clip_text"),
    "clip": ("clip_text",),
    "lookup": ("llm",),
    "stage1": (*FROZEN, "llm"),
    "stage2": (*FROZEN, *LEAVES["stage2"]),
    "stage3": (*FROZEN, *LEAVES["stage3"]),
}

# The parts of these stages ship beside the finished toy, so that each of the paper's stages can be
# run without the stages before it.
SHIPPED = ("lookup", "stage1", "stage2")


def parts_of(model: DreamLLM) -> dict[str, nn.Module]:
    """The parts of a DreamLLM by the names that stages leave them under."""
    return {
        "llm": model.llm,
        "clip_vision": model.vision.tower,
        "visual_projector": model.vision.projector,
        "vae": model.decoder.vae,
        "unet": model.decoder.unet,
        "condition_projector": model.decoder.projector,
        "dream_queries": DreamQueriesModule(model.dream_queries),
    }


def part_file(folder: Path, part: str, before: str | None = None) -> Path:
    """The file of a part from the last stage that leaves it.

    Args:
        folder: of the trained parts.
        part: its name as in `LEAVES`.
        before: a stage; only stages before it count.

    Raises:
        FileNotFoundError: if that stage has not left it; the message names the command to run.
    """
    stages = ORDER[: ORDER.index(before)] if before else ORDER
    source = [stage for stage in stages if part in LEAVES[stage]][-1]
    path = as_path(folder) / f"{source}.{part}.safetensors"
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing: run `python -m minidream.train {source}` first, or `all` for "
            "every stage"
        )
    return path


def files_of(name: str, folder: Path) -> dict[str, Path]:
    """The files of a stage's parts, by part."""
    return {part: folder / f"{name}.{part}.safetensors" for part in LEAVES[name]}


def read_log(path: Path) -> list[dict]:
    """The lines of a finished stage's log.

    Raises:
        ValueError: if it is empty or damaged (names it).
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        log = [json.loads(line) for line in lines]
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not log:
        raise ValueError(f"{path} is empty: its stage has not finished")
    return log


def load_part(path: Path, module: nn.Module) -> nn.Module:
    """Fills a module from a file, strictly, and freezes it.

    Raises:
        ValueError: if the file is damaged, or its tensors are not those of the module (names it).
    """
    tensors = map_tensors(path)
    try:
        module.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise ValueError(f"{path} is of another model: {error}") from error
    return module.eval().requires_grad_(False)


def assemble(
    folder: Path, before: str | None = None, needs: tuple[str, ...] = NEEDS["stage3"]
) -> DreamLLM:
    """A DreamLLM from the parts that stages left.

    Args:
        folder: of the trained parts.
        before: a stage; only parts from stages before it are taken.
        needs: the parts to load; all others stay untrained.

    Raises:
        FileNotFoundError: if a part is missing.
    """
    model = toy.new_model(ToyTokenizer(VOCABULARY))
    modules = parts_of(model)
    for part in needs:
        load_part(part_file(folder, part, before), modules[part])
    return model


def load_run(model: DreamLLM, folder: Path) -> None:
    """Fills the parts of a toy that stages I to III train with those of another run.

    Args:
        model: the toy, in any dtype and on any device.
        folder: what `python -m minidream.train ship` wrote for that run.
    """
    modules = parts_of(model)
    for part in LEAVES["stage3"]:
        trainable = [parameter.requires_grad for parameter in modules[part].parameters()]
        load_part(folder / f"stage3.{part}.safetensors", modules[part])
        for parameter, was in zip(modules[part].parameters(), trainable):
            parameter.requires_grad_(was)


def toy_before(name: str) -> DreamLLM:
    """The shipped toy as it was before one of the paper's stages, to continue training from there.

    It is in float32, on the CPU, and frozen.

    Args:
        name: "stage1", "stage2" or "stage3". Parts that this stage
            trains and no earlier one trained have their initial random weights.
    """
    model = toy.new_model(ToyTokenizer(VOCABULARY))
    cpu, folder = torch.device("cpu"), PRETRAINED / "toy"
    finished = parts_of(read_folder(folder, cpu, torch.float32))
    for part, module in parts_of(model).items():
        if part in FROZEN:
            module.load_state_dict(finished[part].state_dict(), strict=True)
        elif part in NEEDS[name]:
            load_part(part_file(folder / "stages", part, name), module)
    return model.eval().requires_grad_(False)
