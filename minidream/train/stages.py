"""The stages in their order: first the toy's own pretrained parts, then the paper's stages I to
III.

A stage is a module that `trainer.fit` trains (see `pretraining.py` and `clip_stages.py`). `run`
builds it from the parts that earlier stages left in a folder, and saves its own parts there.
"""

from functools import partial
from pathlib import Path

import torch
from torch import nn

from ..model import DreamLLM
from ..tokenizers import ToyTokenizer
from ..trainer.documents import TaskStage
from ..trainer.loop import Recipe
from ..trainer.runs import run_stage
from ..weights import toy
from ..weights.building import single_precision
from ..weights.files import as_path
from ..weights.parts import LEAVES, NEEDS, assemble, load_part, part_file
from ..world.language import VOCABULARY
from . import batches, clip_stages, pretraining, words


class DocumentStage(TaskStage):
    """A stage of the DreamLLM itself; its name determines its tasks, its recipe and what it trains.

    Args:
        name: of the stage.
        model: the DreamLLM. Everything that the stage does not train is frozen.
    """

    def __init__(self, name: str, model: DreamLLM):
        later = LATER_TASKS.get(name, {})
        super().__init__(name, model, RECIPES[name], LEAVES[name], TASKS[name], later)


# The tasks of each stage of the DreamLLM, which take turns. The number beside a task is its batch
# size as a multiple of the recipe's, chosen so that all steps take about the same time.
TASKS = {
    "llm": (
        (words.restated, 2.0),
        (words.paraphrases, 1.0),
        (words.restated, 2.0),
        (words.answered, 1.0),
        (words.restated, 2.0),
        (words.stories_told, 0.75),
    ),
    "lookup": ((words.noted_in_lists, 2.0),),
    "stage1": (
        (batches.simple_text_to_image, 1.0),
        (batches.captions, 0.5),
        (batches.simple_text_to_image, 1.0),
        (batches.questions, 0.4),
    ),
    "stage2": (
        (batches.simple_text_to_image, 1.0),
        (batches.captions, 0.5),
        (batches.text_to_image, 1.0),
        (batches.decided_edits, 0.5),
        (batches.simple_text_to_image, 1.0),
        (batches.stories, 0.15),
        (batches.text_to_image, 1.0),
        (words.decided, 0.75),
        (words.restated, 0.5),
    ),
    "stage3": (
        (batches.edits, 0.4),
        (batches.questions, 0.4),
        (batches.edits, 0.4),
        (batches.decided_edits, 0.5),
        (batches.stories, 0.2),
        (batches.captions, 0.5),
        (batches.edits, 0.4),
        (words.decided, 0.75),
        (batches.edits, 0.4),
        (batches.questions, 0.4),
        (words.restated, 0.5),
        (batches.decided_edits, 0.5),
        (batches.text_to_image, 0.75),
    ),
}

# Tasks from a later step on, by this step. They need what is learned first: at the beginning they
# would teach to guess.
LATER_TASKS = {
    "llm": {
        1500: (
            (words.named_edits, 2.0),
            (words.restated, 2.0),
            (words.named_edits, 2.0),
            (words.answered, 1.0),
            (words.named_edits, 2.0),
            (words.stories_told, 0.75),
        ),
    },
    "lookup": {
        600: ((words.decided, 2.0),),
        1100: (
            (words.decided, 2.0),
            (words.restated, 1.5),
            (words.noted, 2.0),
            (words.decided, 2.0),
            (words.asked, 1.0),
            (words.restated, 1.5),
            (words.decided, 2.0),
            (words.placed, 2.0),
            (words.restated, 1.5),
            (words.stories_told, 0.75),
        ),
    },
}

RECIPES = {
    "judge": pretraining.JudgeStage.recipe,
    "vae": pretraining.VaeStage.recipe,
    "text": clip_stages.TextStage.recipe,
    "unet": pretraining.UnetStage.recipe,
    "clip": clip_stages.ClipStage.recipe,
    "llm": Recipe(steps=6000, batch=32, learning_rate=2e-3, weight_decay=0.02),
    "lookup": Recipe(steps=3000, batch=32, learning_rate=1e-3, weight_decay=0.02),
    "stage1": Recipe(steps=600, batch=48, learning_rate=3e-3, weight_decay=0.0, warmup=20),
    "stage2": Recipe(steps=2000, batch=64, learning_rate=1e-3, weight_decay=0.0),
    "stage3": Recipe(steps=4200, batch=64, learning_rate=1e-3, weight_decay=0.0),
}


@single_precision()
def build(name: str, folder: Path, seed: int, compiled: bool = False) -> nn.Module:
    """A stage, ready to be trained, on top of the parts that earlier stages left in a folder.

    Raises:
        FileNotFoundError: for a missing part (names the stage that leaves it).
    """
    torch.manual_seed(seed)
    tokenizer = ToyTokenizer(VOCABULARY)

    def earlier(part: str, module: nn.Module) -> nn.Module:
        """A part that an earlier stage left, frozen."""
        return load_part(part_file(folder, part, name), module)

    if name == "judge":
        return pretraining.JudgeStage()
    if name == "vae":
        return pretraining.VaeStage()
    if name == "text":
        return clip_stages.TextStage(tokenizer)
    if name in ("unet", "clip"):
        text = earlier("clip_text", toy.new_clip(len(tokenizer))[1])
    if name == "unet":
        return pretraining.UnetStage(earlier("vae", toy.new_vae()), text, tokenizer)
    if name == "clip":
        return clip_stages.ClipStage(text, tokenizer)
    model = assemble(folder, name, NEEDS.get(name, ()))
    if compiled:
        model.llm.compile(dynamic=True)  # lengths differ from batch to batch
    return DocumentStage(name, model)


def run(
    name: str,
    folder: str | Path,
    seed: int = 0,
    steps: int | None = None,
    progress: bool = True,
    compiled: bool = False,
) -> None:
    """Trains one stage, unless it has finished.

    Args:
        name, folder, seed, steps, progress: as of `trainer.runs.run_stage`, which also says what
            is raised.
        compiled: compile the language model first, which takes a minute.
    """
    folder = as_path(folder)
    start = partial(build, name, folder, seed, compiled)
    run_stage(name, folder, start, RECIPES[name], seed, steps, progress)
