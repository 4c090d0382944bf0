"""The stages in their order: the toy's own pretrained parts first, then the paper's stages I, II and III.

A stage is a module (see `pretraining.py`) that `train.fit` trains. `run` builds one from the parts that earlier stages
left in a folder, and leaves its own there.
"""

import json
import random
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ..model import DreamLLM
from ..plots import plot_losses
from ..tokenizers import ToyTokenizer
from ..weights import PRETRAINED, toy, write_folder
from ..weights.files import write_atomically
from ..weights.parts import LEAVES, NEEDS, ORDER, SHIPPED, assemble, load_part, part_file, parts_of
from ..world.language import VOCABULARY
from . import lessons, pretraining
from .loop import Recipe, fit


class DocumentStage(nn.Module):
    """A stage of the DreamLLM itself: documents in, language and denoising loss out. What it leaves is what it trains.

    Args:
        name: of the stage, which says what it is shown and how long.
        model: the DreamLLM; everything that the stage does not train is frozen.
    """

    def __init__(self, name: str, model: DreamLLM):
        super().__init__()
        self.name, self.model = name, model
        self.lessons, self.recipe = LESSONS[name]
        model.requires_grad_(False)
        for part in LEAVES[name]:
            self.parts()[part].requires_grad_(True)

    def batch(self, seed: int, step: int, process: int):
        """Layouts and documents of one kind; the kinds take turns."""
        rng = random.Random(f"{self.name} {seed} {step} {process}")
        lesson, share = self.lessons[step % len(self.lessons)]
        return lesson(rng, round(share * self.recipe.batch), self.model)

    def forward(self, batch, generator):
        """The losses of the paper's equation 7."""
        losses = self.model.loss_of_layouts(*batch, generator)
        return {"total": losses.total, "language": losses.language, "diffusion": losses.diffusion}

    def parts(self):
        """All parts of the DreamLLM."""
        return parts_of(self.model)


# What each stage of the DreamLLM is shown: lessons that take turns, each with its share of the batch, set so that every
# step costs about the same; and how long.
LESSONS = {
    "llm": (
        (
            (lessons.retold, 2.0),
            (lessons.paraphrases, 1.5),
            (lessons.retold, 2.0),
            (lessons.text_only, 1.0),
            (lessons.text_stories, 1.0),
        ),
        Recipe(steps=4500, batch=32, learning_rate=2e-3, weight_decay=0.02),
    ),
    "stage1-comprehension": (
        ((lessons.captions, 1.0), (lessons.questions, 0.5)),
        Recipe(steps=500, batch=32, learning_rate=2e-3, weight_decay=0.0),
    ),
    "stage1-creation": (
        ((lessons.simple_text_to_image, 1.0),),
        Recipe(steps=300, batch=48, learning_rate=4e-3, weight_decay=0.0, warmup=20),
    ),
    "stage2": (
        (
            (lessons.simple_text_to_image, 1.0),
            (lessons.captions, 0.5),
            (lessons.simple_text_to_image, 1.0),
            (lessons.stories, 0.15),
            (lessons.text_to_image, 1.0),
            (lessons.retold, 0.5),
        ),
        Recipe(steps=2400, batch=64, learning_rate=1e-3, weight_decay=0.0),
    ),
    "stage3": (
        (
            (lessons.questions, 0.5),
            (lessons.edits, 0.5),
            (lessons.captions, 0.5),
            (lessons.edits, 0.5),
            (lessons.stories, 0.25),
            (lessons.questions, 0.5),
            (lessons.edits, 0.5),
            (lessons.captions, 0.5),
            (lessons.text_to_image, 1.0),
        ),
        Recipe(steps=6600, batch=64, learning_rate=1e-3, weight_decay=0.0),
    ),
}

RECIPES = {
    stage.name: stage.recipe
    for stage in (
        pretraining.JudgeStage,
        pretraining.VaeStage,
        pretraining.VaeDecoderStage,
        pretraining.TextStage,
        pretraining.UnetStage,
        pretraining.ClipStage,
        pretraining.SightStage,
    )
} | {name: recipe for name, (_, recipe) in LESSONS.items()}


def build(name: str, folder: Path, seed: int) -> nn.Module:
    """A stage, ready to train, on top of the parts in the folder; FileNotFoundError names a missing one."""
    torch.manual_seed(seed)
    tokenizer = ToyTokenizer(VOCABULARY)

    def earlier(part: str, module: nn.Module) -> nn.Module:
        """A part that a stage before this one left, frozen."""
        return load_part(part_file(folder, part, name), module)

    if name == "judge":
        return pretraining.JudgeStage()
    if name == "vae":
        return pretraining.VaeStage()
    if name == "decoder":
        return pretraining.VaeDecoderStage(earlier("vae", toy.new_vae()).requires_grad_(True))
    if name == "text":
        return pretraining.TextStage(tokenizer)
    if name in ("unet", "clip", "sight"):
        text = earlier("clip_text", toy.new_clip(len(tokenizer))[1])
    if name == "unet":
        return pretraining.UnetStage(earlier("vae", toy.new_vae()), text, tokenizer)
    if name == "clip":
        return pretraining.ClipStage(text, tokenizer)
    if name == "sight":
        vision = toy.new_clip(len(tokenizer))[0]
        return pretraining.SightStage(
            earlier("clip_vision", vision.vision_model),
            earlier("clip_visual_projection", vision.visual_projection),
            text,
            tokenizer,
        )
    return DocumentStage(name, assemble(folder, name, NEEDS.get(name, ())))


def run(
    name: str, folder: str | Path, seed: int = 0, steps: int | None = None, progress: bool = True
) -> None:
    """Trains one stage to its end, unless it has finished, and writes the parts that it leaves."""
    folder = Path(folder)
    files = {part: folder / f"{name}.{part}.safetensors" for part in LEAVES[name]}
    if all(path.exists() for path in files.values()):
        print(f"{name}: finished before ({', '.join(path.name for path in files.values())})")
        return
    stage = build(name, folder, seed)
    log = fit(stage, folder, seed=seed, steps=steps, progress=progress)
    for part, path in files.items():
        tensors = {
            key: value.detach().cpu().contiguous()
            for key, value in stage.parts()[part].state_dict().items()
        }
        write_atomically(lambda temporary: save_file(tensors, temporary), path)
    if log:
        figure = plot_losses(log, name)
        write_atomically(lambda path: figure.savefig(path, format="png"), folder / f"{name}.png")


def ship(folder: str | Path, to: Path = PRETRAINED / "toy") -> None:
    """Writes what the stages left into the package: a part per safetensors file, in half precision.

    Beside the DreamLLM in the official layout: the judge, the toy CLIP's text tower and projection, and what earlier
    stages left.
    """
    folder = Path(folder)
    extras = {
        part: load_file(part_file(folder, part))
        for part in ("judge", "clip_text", "clip_visual_projection")
    }
    write_folder(
        assemble(folder).half(),
        Path(to),
        lambda tensors, stem, place: save_file(tensors, place / f"{stem}.safetensors"),
    )
    for part, tensors in extras.items():
        write_atomically(
            lambda path: save_file(half(tensors), path), Path(to) / f"{part}.safetensors"
        )
    ship_stages(folder, Path(to) / "stages")
    write_atomically(
        lambda path: path.write_text(json.dumps(summary(folder), indent=1) + "\n"),
        Path(to) / "training.json",
    )


def half(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """In half precision, but for whole numbers."""
    return {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }


def ship_stages(folder: Path, to: Path) -> None:
    """Writes the parts that the stages before the last left: where `toy_before` finds them."""
    to.mkdir(parents=True, exist_ok=True)
    for source in [
        folder / f"{name}.{part}.safetensors" for name in SHIPPED for part in LEAVES[name]
    ]:
        write_atomically(lambda path: save_file(half(load_file(source)), path), to / source.name)


def summary(folder: Path) -> dict:
    """What every stage took and came to, from its log: steps, samples, minutes, and the last lines' mean losses."""
    found = {}
    for name in ORDER:
        log = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        batch = RECIPES[name].batch
        steps = [
            line["step"] - before for line, before in zip(log, [0, *(line["step"] for line in log)])
        ]
        seconds = sum(count * batch / line["samples_per_second"] for count, line in zip(steps, log))
        losses = {
            key: round(sum(line[key] for line in log[-10:]) / len(log[-10:]), 4)
            for key in log[0]
            if key not in ("step", "rate", "samples_per_second")
        }
        found[name] = {
            "steps": log[-1]["step"],
            "batch": batch,
            "minutes": round(seconds / 60, 1),
            "losses": losses,
        }
    return found
