"""What a family is: a module that `train.fit` trains on samples and that the exam asks for replies.

As it stands, `Family` is any system shaped like the library's `DreamLLM`: pictures come in as tokens, text goes out, and
pictures come out of dream queries if it has any. A family that differs says only where.
"""

import random
from dataclasses import dataclass, replace

import torch
from torch import nn

from ..documents import Document, Layout
from ..dream_queries import ConditionProjector, new_dream_queries
from ..llm import LLM
from ..model import DreamLLM
from ..tokenizers import ToyTokenizer
from ..train.lessons import dialogue, laid_out
from ..train.loop import Recipe
from ..weights import parts, toy
from .samples import Sample, draw_sample

QUERIES = 32  # of every family that has dream queries: as many as CLIP has text states, so that only the teacher differs


@dataclass(frozen=True)
class FamilyPlan:
    """What all families share; results of another plan do not stand beside them."""

    steps: int = 600
    batch: int = 32
    prompts: int = 48  # samples of each kind in the exam, seen and held out apart

    def __post_init__(self):
        if min(self.steps, self.batch, self.prompts) < 1:
            raise ValueError(
                f"steps, batch and prompts are at least 1, not {self.steps}, {self.batch} and {self.prompts}"
            )

    def recipe(self, learning_rate: float, share: float = 1.0) -> Recipe:
        """So long and so fast; `share` of the steps, where a family learns one part after another.

        Rates were set by hand for each size of what learns, before the first exam; none was tuned.
        """
        steps = max(1, round(share * self.steps))
        return Recipe(
            steps, self.batch, learning_rate, weight_decay=0.0, warmup=min(50, steps // 4)
        )


class Family(nn.Module):
    """A system of one family.

    Args:
        name: of its row in the table.
        model: its boxes; everything that `trained` does not name is frozen.
        recipe: how long and how fast it learns.
        kinds: of samples that it can be asked at all.
        trained: modules and parameters that learn.
        training_kinds: kinds that it learns from, taking turns; None is all that it can.
    """

    def __init__(
        self,
        name: str,
        model: DreamLLM,
        recipe: Recipe,
        kinds: tuple[str, ...],
        trained: list,
        training_kinds: tuple[str, ...] | None = None,
    ):
        super().__init__()
        self.name, self.model, self.recipe = name, model, recipe
        self.kinds, self.training_kinds = kinds, training_kinds or kinds
        model.requires_grad_(False)
        for part in trained:
            part.requires_grad_(True)

    @property
    def phases(self) -> list[nn.Module]:
        """What `train.fit` trains, one after another: itself last, what it builds on before."""
        return [self]

    def batch(self, seed: int, step: int, process: int) -> list[Sample]:
        """Samples of one kind; the kinds take turns. Of each kind every family sees the same ones in the same order, more or fewer."""
        turn, number = divmod(step, len(self.training_kinds))
        kind = self.training_kinds[number]
        rng = random.Random(f"families {seed} {kind} {turn} {process}")
        return [draw_sample(kind, rng) for _ in range(self.recipe.batch)]

    def lay_out(self, sample: Sample) -> tuple[Layout, Document]:
        """A sample as one sequence: only its reply is learned."""
        if isinstance(sample.reply, str):
            return dialogue(self.model, list(sample.given), sample.reply, sample.follow_ups)
        document = Document([*sample.given, sample.reply], targets=[len(sample.pictures)])
        (layout,), _ = laid_out([document], self.model, learn_text=False, read_last=False)
        return layout, document

    def forward(self, batch: list[Sample], generator: torch.Generator) -> dict:
        """The loss of the paper's equation 7, and the one of its two parts that a batch of this kind has."""
        layouts, documents = zip(*map(self.lay_out, batch))
        losses = self.model.loss_of_layouts(layouts, documents, generator)
        return {
            "total": losses.total,
            **(
                {"diffusion": losses.diffusion}
                if layouts[0].queries
                else {"language": losses.language}
            ),
        }

    def extra_results(self, evaluation) -> dict:
        """What else a run of this family should tell, beside its marks in an `evaluation.FamilyEvaluation`."""
        return {}

    @torch.no_grad()
    def replies(self, samples: list[Sample]) -> list:
        """What it says or paints: str, or PIL images (None where it painted nothing); samples of one kind, picture i has seed i."""
        if isinstance(samples[0].reply, str):
            return [self.model.chat(list(sample.given), max_new_tokens=24) for sample in samples]
        return self.model.dream([Document(list(sample.given), targets=[]) for sample in samples])


def base_model(queries: int = QUERIES) -> DreamLLM:
    """The frozen pretrained parts (text-only language model, CLIP, VAE, U-Net), and new queries and projectors between them.

    What is new is drawn from torch's own generator.
    """
    model = parts.toy_before("stage1-comprehension")
    model.vision.projector.reset_parameters()
    model.dream_queries = new_dream_queries(queries, toy.LLM_SIZE, std=toy.EMBEDDING_STD)
    model.decoder.projector = ConditionProjector(toy.LLM_SIZE, toy.CONDITION_SIZE)
    return model


def stage2_modules(model: DreamLLM) -> list[nn.Module]:
    """What DreamLLM's stage II trains: language model, dream queries and both projectors."""
    modules = parts.parts_of(model)
    return [modules[name] for name in parts.LEAVES["stage2"]]


def with_words(model: DreamLLM, words: tuple[str, ...]) -> DreamLLM:
    """The same model with more words: new rows in the tables of what goes in and what comes out; the old ones stay, and their ids.

    New rows are drawn from torch's own generator, as loud as those of an untrained toy.
    """
    old, tokenizer = model.llm, ToyTokenizer([*model.tokenizer.words, *words])
    llm = LLM(replace(old.config, vocab_size=len(tokenizer)))
    nn.init.normal_(llm.embed_tokens.weight, std=toy.EMBEDDING_STD)
    nn.init.normal_(llm.lm_head.weight, std=0.05)
    tables = {
        name: table
        for name, table in llm.state_dict().items()
        if name in ("embed_tokens.weight", "lm_head.weight")
    }
    for name, table in tables.items():
        table[: old.config.vocab_size] = old.state_dict()[name]
    llm.load_state_dict(old.state_dict() | tables)
    return DreamLLM(llm, model.vision, model.decoder, model.dream_queries, tokenizer, model.config)


def trained_parameter_count(phases: list[nn.Module]) -> int:
    """How many numbers learn in all phases, each counted once."""
    return sum(
        parameter.numel()
        for parameter in {parameter for phase in phases for parameter in phase.parameters()}
        if parameter.requires_grad
    )
