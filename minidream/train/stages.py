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
from ..trainer.documents import TaskStage, Turns
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

    `llm` learns to read and write; `lookup`, what no mix taught it: whose an attribute is. `stage1`
    fits new parts to it, `stage2` interleaves words and pictures, `stage3` follows instructions.

    Args:
        name: of the stage.
        model: the DreamLLM. Everything that the stage does not train is frozen.
    """

    def __init__(self, name: str, model: DreamLLM):
        later = LATER_TASKS.get(name, {})
        super().__init__(name, model, RECIPES[name], LEAVES[name], TASKS[name], later)


def turns(names: str, shares: dict[str, float]) -> Turns:
    """Tasks of `batches` and `words` in the order in which they take turns.

    Args:
        names: of the tasks, separated by spaces.
        shares: the batch size of each task as a multiple of the recipe's, chosen so that all steps
            of a stage take about the same time.
    """
    tasks = vars(words) | vars(batches)
    return tuple((tasks[name], shares[name]) for name in names.split())


# Batch sizes that suit any stage, as multiples of the recipe's.
WITH_PICTURES = dict(captions=0.5, questions=0.4, yes_or_no=0.4, decided_edits=0.5, restated=0.5)
WITH_PICTURES |= dict(text_to_image=0.75, simple_text_to_image=0.75)
IN_WORDS = dict(decided=2, decided_in_any_words=1, noted_briefly=2, noted=1.5, placed=2)
IN_WORDS |= dict(restated=1.5, asked=1, stories_told=0.75)

TASKS = {
    "llm": turns(
        "restated paraphrases restated answered restated stories_told",
        dict(restated=2, paraphrases=1, answered=1, stories_told=0.75),
    ),
    "lookup": turns("decided", dict(decided=2)),
    "stage1": turns(
        "simple_text_to_image captions simple_text_to_image questions",
        dict(simple_text_to_image=1, captions=0.5, questions=0.4),
    ),
    "stage2": turns("questions decided_edits", dict(questions=1, decided_edits=1)),
    "stage3": turns(
        "edits text_to_image captions edits questions simple_text_to_image decided_edits edits "
        "stories text_to_image restated edits captions simple_text_to_image yes_or_no questions "
        "decided_edits decided_in_any_words",
        WITH_PICTURES | dict(edits=0.4, stories=0.2, decided_in_any_words=0.75),
    ),
}
# Tasks from a later step on, by this step. They need what is learned first: at the beginning they
# would teach to guess.
LATER_TASKS = {
    "llm": {
        1500: turns(
            "named_edits restated named_edits answered named_edits stories_told",
            dict(named_edits=2, restated=2, answered=1, stories_told=0.75),
        ),
    },
    "lookup": {
        500: turns("decided_in_any_words", dict(decided_in_any_words=2)),
        1000: turns("noted_briefly decided_in_any_words", IN_WORDS),
        1500: turns("noted decided_in_any_words noted restated", IN_WORDS),
        2000: turns(
            "asked restated decided_in_any_words asked restated noted placed restated stories_told",
            IN_WORDS,
        ),
    },
    "stage2": {
        700: turns(
            "yes_or_no questions yes_or_no decided_edits",
            dict(yes_or_no=1, questions=0.5, decided_edits=0.5),
        ),
        1200: turns(
            "simple_text_to_image captions text_to_image questions simple_text_to_image stories "
            "text_to_image decided_edits simple_text_to_image restated yes_or_no",
            WITH_PICTURES | dict(simple_text_to_image=1, text_to_image=1, stories=0.15),
        ),
    },
}

FROZEN = (pretraining.JudgeStage, pretraining.VaeStage, clip_stages.TextStage)
FROZEN += (pretraining.UnetStage, clip_stages.ClipStage)
RECIPES = {
    **{stage.name: stage.recipe for stage in FROZEN},
    "llm": Recipe(steps=6000, batch=32, learning_rate=2e-3, weight_decay=0.02),
    "lookup": Recipe(steps=3600, batch=32, learning_rate=1e-3, weight_decay=0.02),
    "stage1": Recipe(steps=600, batch=48, learning_rate=3e-3, weight_decay=0.0, warmup=20),
    "stage2": Recipe(steps=2200, batch=64, learning_rate=1e-3, weight_decay=0.0),
    "stage3": Recipe(steps=5400, batch=64, learning_rate=1e-3, weight_decay=0.0),
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
