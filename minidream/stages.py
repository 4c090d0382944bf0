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

from . import lessons, pretraining, toy
from .model import DreamLLM
from .tokenizers import ToyTokenizer
from .train import Recipe, fit, write_atomically
from .weights import PRETRAINED, Queries, load, write_folder
from .world.language import VOCABULARY


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
    "llm": (((lessons.retold, 2.0), (lessons.paraphrases, 1.5), (lessons.retold, 2.0), (lessons.text_only, 1.0),
             (lessons.text_stories, 1.0)), Recipe(steps=4500, batch=32, learning_rate=2e-3, weight_decay=0.02)),
    "stage1-comprehension": (((lessons.captions, 1.0), (lessons.questions, 0.5)), Recipe(steps=500, batch=32, learning_rate=2e-3, weight_decay=0.0)),
    "stage1-creation": (((lessons.simple_text_to_image, 1.0),), Recipe(steps=300, batch=48, learning_rate=4e-3, weight_decay=0.0, warmup=20)),
    "stage2": (((lessons.simple_text_to_image, 1.0), (lessons.captions, 0.5), (lessons.simple_text_to_image, 1.0),
                (lessons.stories, 0.15), (lessons.text_to_image, 1.0), (lessons.retold, 0.5)),
               Recipe(steps=2400, batch=64, learning_rate=1e-3, weight_decay=0.0)),
    "stage3": (((lessons.questions, 0.5), (lessons.edits, 0.5), (lessons.captions, 0.5), (lessons.edits, 0.5),
                (lessons.stories, 0.25), (lessons.questions, 0.5), (lessons.edits, 0.5), (lessons.captions, 0.5),
                (lessons.text_to_image, 1.0)),
               Recipe(steps=6600, batch=64, learning_rate=1e-3, weight_decay=0.0)),
}

# In this order. Each leaves parts, `<stage>.<part>.safetensors`; a stage takes each part that it needs from the last
# stage before it that leaves one.
LEAVES = {
    "judge": ("judge",), "vae": ("vae",), "decoder": ("vae",), "text": ("clip_text",), "unet": ("unet",),
    "clip": ("clip_vision", "clip_text", "clip_visual_projection"),
    "sight": ("clip_vision", "clip_text", "clip_visual_projection"), "llm": ("llm",),
    "stage1-comprehension": ("visual_projector",), "stage1-creation": ("dream_queries", "condition_projector"),
    "stage2": ("llm", "visual_projector", "dream_queries", "condition_projector"),
    "stage3": ("llm", "visual_projector", "dream_queries", "condition_projector")}
ORDER = tuple(LEAVES)
RECIPES = {stage.name: stage.recipe for stage in (
    pretraining.JudgeStage, pretraining.VaeStage, pretraining.DecoderStage, pretraining.TextStage, pretraining.UnetStage,
    pretraining.ClipStage, pretraining.SightStage)} | {name: recipe for name, (_, recipe) in LESSONS.items()}
FROZEN = ("clip_vision", "vae", "unet")
NEEDS = {"stage1-comprehension": ("clip_vision", "llm"), "stage1-creation": ("vae", "unet", "llm"),
         "stage2": (*FROZEN, *LEAVES["stage2"]), "stage3": (*FROZEN, *LEAVES["stage3"])}
# Stages whose parts ship beside the finished toy, so that each of the next can be tried without those before it.
SHIPPED = ("llm", "stage1-comprehension", "stage1-creation", "stage2")


def parts_of(model: DreamLLM) -> dict[str, nn.Module]:
    """The parts of a DreamLLM, as stages leave them."""
    return {"llm": model.llm, "clip_vision": model.vision.tower, "visual_projector": model.vision.projector,
            "vae": model.decoder.vae, "unet": model.decoder.unet, "condition_projector": model.decoder.projector,
            "dream_queries": Queries(model.dream_queries)}


def part_file(folder: Path, part: str, before: str | None = None) -> Path:
    """The file of a part, from the last stage that leaves it, before the stage `before` if one is named."""
    stages = ORDER[:ORDER.index(before)] if before else ORDER
    source = [stage for stage in stages if part in LEAVES[stage]][-1]
    path = Path(folder) / f"{source}.{part}.safetensors"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run `python -m minidream.train {source}` first, or `all` for every stage")
    return path


def load_part(path: Path, module: nn.Module) -> nn.Module:
    """Fills a module from a file, strictly, and freezes it."""
    module.load_state_dict(load_file(path), strict=True)
    return module.eval().requires_grad_(False)


def assemble(folder: Path, before: str | None = None, needs: tuple[str, ...] = NEEDS["stage3"]) -> DreamLLM:
    """A DreamLLM from the parts that stages left; what is not needed stays untrained."""
    model = toy.new_model(ToyTokenizer(VOCABULARY))
    modules = parts_of(model)
    for part in needs:
        load_part(part_file(folder, part, before), modules[part])
    return model


def toy_before(name: str) -> DreamLLM:
    """The shipped toy as it stood before one of the paper's stages, float32, on the CPU, frozen: for training on from there.

    Args:
        name: "stage1-comprehension", "stage1-creation", "stage2" or "stage3". What the stage trains and no earlier one
            did is as it was drawn.
    """
    model, shipped = toy.new_model(ToyTokenizer(VOCABULARY)), parts_of(load("toy", device="cpu"))
    for part, module in parts_of(model).items():
        if part in FROZEN:
            module.load_state_dict(shipped[part].state_dict(), strict=True)
        elif part in NEEDS[name]:
            load_part(part_file(PRETRAINED / "toy" / "stages", part, name), module)
    return model.eval().requires_grad_(False)


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
        return pretraining.DecoderStage(earlier("vae", toy.new_vae()).requires_grad_(True))
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
        return pretraining.SightStage(earlier("clip_vision", vision.vision_model),
                                      earlier("clip_visual_projection", vision.visual_projection), text, tokenizer)
    return DocumentStage(name, assemble(folder, name, NEEDS.get(name, ())))


def run(name: str, folder: str | Path, seed: int = 0, steps: int | None = None, progress: bool = True) -> None:
    """Trains one stage to its end, unless it has finished, and writes the parts that it leaves."""
    folder = Path(folder)
    files = {part: folder / f"{name}.{part}.safetensors" for part in LEAVES[name]}
    if all(path.exists() for path in files.values()):
        print(f"{name}: finished before ({', '.join(path.name for path in files.values())})")
        return
    stage = build(name, folder, seed)
    fit(stage, folder, seed=seed, steps=steps, progress=progress)
    for part, path in files.items():
        tensors = {key: value.detach().cpu().contiguous() for key, value in stage.parts()[part].state_dict().items()}
        write_atomically(lambda temporary: save_file(tensors, temporary), path)


def ship(folder: str | Path, to: Path = PRETRAINED / "toy") -> None:
    """Writes what the stages left into the package: a part per safetensors file, in half precision.

    Beside the DreamLLM in the official layout: the judge, the toy CLIP's text tower and projection, and what earlier
    stages left.
    """
    folder = Path(folder)
    extras = {part: load_file(part_file(folder, part)) for part in ("judge", "clip_text", "clip_visual_projection")}
    write_folder(assemble(folder).half(), Path(to), lambda tensors, stem, place: save_file(tensors, place / f"{stem}.safetensors"))
    for part, tensors in extras.items():
        write_atomically(lambda path: save_file(half(tensors), path), Path(to) / f"{part}.safetensors")
    ship_stages(folder, Path(to) / "stages")
    write_atomically(lambda path: path.write_text(json.dumps(summary(folder), indent=1) + "\n"), Path(to) / "training.json")


def half(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """In half precision, but for whole numbers."""
    return {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def ship_stages(folder: Path, to: Path) -> None:
    """Writes the parts that the stages before the last left: where `toy_before` finds them."""
    to.mkdir(parents=True, exist_ok=True)
    for source in [folder / f"{name}.{part}.safetensors" for name in SHIPPED for part in LEAVES[name]]:
        write_atomically(lambda path: save_file(half(load_file(source)), path), to / source.name)


def summary(folder: Path) -> dict:
    """What every stage took and came to, from its log: steps, samples, minutes, and the last lines' mean losses."""
    found = {}
    for name in ORDER:
        log = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        batch = RECIPES[name].batch
        steps = [line["step"] - before for line, before in zip(log, [0, *(line["step"] for line in log)])]
        seconds = sum(count * batch / line["samples_per_second"] for count, line in zip(steps, log))
        losses = {key: round(sum(line[key] for line in log[-10:]) / len(log[-10:]), 4) for key in log[0]
                  if key not in ("step", "rate", "samples_per_second")}
        found[name] = {"steps": log[-1]["step"], "batch": batch, "minutes": round(seconds / 60, 1), "losses": losses}
    return found
