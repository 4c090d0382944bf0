"""The base class of all families, their common budget, and the model that they start from.

`Family` itself is any system built like the library's `DreamLLM`: pictures enter as tokens, text
comes out, and pictures are painted from dream queries. A family that works otherwise overrides
what differs.
"""

from dataclasses import dataclass, replace

import torch
from torch import nn

from ..documents import Document, Layout
from ..dream_queries import ConditionProjector, new_dream_queries
from ..images import as_integer
from ..llm import LLM
from ..model import DreamLLM
from ..tokenizers import ToyTokenizer
from ..trainer.lessons import dialogue, laid_out
from ..trainer.loop import Recipe
from ..trainer.processes import joined_losses
from ..weights import parts, toy
from .samples import Sample, draw_batch

# As many dream queries as CLIP has text states, so that aligning to them changes only the teacher.
QUERIES = 32


@dataclass(frozen=True)
class FamilyPlan:
    """The budget that all families share; results of different plans cannot be compared."""

    steps: int = 600
    batch: int = 32
    prompts: int = 48  # evaluation samples of each kind; as many again of held-out combinations

    def __post_init__(self):
        if min(self.steps, self.batch, self.prompts) < 1:
            raise ValueError(
                "steps, batch and prompts are at least 1, "
                f"not {self.steps}, {self.batch} and {self.prompts}"
            )
        for name in ("steps", "batch", "prompts"):
            as_integer(name, getattr(self, name))

    def recipe(self, learning_rate: float, share: float = 1.0) -> Recipe:
        """The recipe of one training phase.

        Args:
            learning_rate: set by hand for the number of trained parameters, before the first
                evaluation. None was tuned.
            share: of the steps, for families that train one part after another.
        """
        steps = max(1, round(share * self.steps))
        warmup = min(50, steps // 4)
        return Recipe(steps, self.batch, learning_rate, weight_decay=0.0, warmup=warmup)


class Family(nn.Module):
    """One family's system: `trainer.fit` trains it, and an evaluation asks it for replies.

    Args:
        name: its name in results, and on the command line.
        model: all its parts; everything that `trained` does not list is frozen.
        recipe: how long and how fast it learns.
        kinds: the kinds of samples that it can answer at all. Whoever paints prompts ("paint") is
            also asked those with two objects ("pair").
        trained: the modules and parameters that learn.
        training_kinds: the kinds that it learns from, in turns; None means all of `kinds`. Pairs
            have no turn of their own: see `samples.draw_batch`.
        earlier_phases: modules that are trained before this one, and frozen when it trains.
    """

    def __init__(
        self,
        name: str,
        model: DreamLLM,
        recipe: Recipe,
        kinds: tuple[str, ...],
        trained: list,
        training_kinds: tuple[str, ...] | None = None,
        earlier_phases: tuple[nn.Module, ...] = (),
    ):
        super().__init__()
        self.name, self.model, self.recipe = name, model, recipe
        self.kinds = (*kinds, "pair") if "paint" in kinds else kinds
        self.training_kinds = training_kinds or kinds
        # In a tuple, where torch finds no submodules: their weights belong to their own phase.
        self.earlier_phases = earlier_phases
        model.requires_grad_(False)
        for part in trained:
            part.requires_grad_(True)

    @property
    def phases(self) -> list[nn.Module]:
        """The modules that `trainer.fit` trains, in order; the family itself is the last one."""
        return [*self.earlier_phases, self]

    def batch(self, seed: int, step: int, process: int) -> list[Sample]:
        """As `samples.draw_batch`."""
        return draw_batch(self.training_kinds, self.recipe.batch, seed, step, process)

    def lay_out(self, sample: Sample) -> tuple[Layout, Document]:
        """A sample as one sequence, in which only the reply is a training target."""
        if sample.replies_in_text:
            return dialogue(self.model, list(sample.given), sample.reply, sample.follow_ups)
        document = Document([*sample.given, sample.reply], targets=[len(sample.pictures)])
        (layout,), _ = laid_out([document], self.model, learn_text=False, read_last=False)
        return layout, document

    def forward(self, batch: list[Sample], generator: torch.Generator) -> dict:
        """The loss of the paper's equation 7 ("total"), and the one of its terms that is not 0."""
        layouts, documents = zip(*map(self.lay_out, batch))
        losses = joined_losses(self.model, layouts, documents, generator)
        term = "diffusion" if layouts[0].queries else "language"
        return {"total": losses.total, term: getattr(losses, term)}

    def extra_results(self, evaluation) -> dict:
        """Further results for the record of a run, beside the scores of a `FamilyEvaluation`."""
        return {}

    @torch.no_grad()
    def replies(self, samples: list[Sample]) -> list:
        """The replies to samples of one kind; picture i is painted with seed i.

        Returns:
            One str for each sample; or one PIL image, None if the system painted nothing.
        """
        if samples[0].replies_in_text:
            return [self.model.chat(list(sample.given), max_new_tokens=24) for sample in samples]
        return self.model.dream([Document(list(sample.given), targets=[]) for sample in samples])


def base_model(queries: int = QUERIES) -> DreamLLM:
    """The frozen pretrained parts with new dream queries and projectors between them.

    The pretrained parts are a language model that has read only text, CLIP, the VAE and the
    U-Net. The new parts are drawn from torch's global generator.
    """
    model = parts.toy_before("stage1")
    model.vision.projector.reset_parameters()
    model.dream_queries = new_dream_queries(queries, toy.LLM_SIZE, std=toy.EMBEDDING_STD)
    model.decoder.projector = ConditionProjector(toy.LLM_SIZE, toy.CONDITION_SIZE)
    return model


def stage2_modules(model: DreamLLM) -> list[nn.Module]:
    """What DreamLLM's stage II trains: language model, dream queries and both projectors."""
    modules = parts.parts_of(model)
    return [modules[name] for name in parts.LEAVES["stage2"]]


def with_new_words(model: DreamLLM, words: tuple[str, ...]) -> DreamLLM:
    """The same model with a larger vocabulary.

    The embedding and the LM head get new rows, drawn from torch's global generator with the
    standard deviation of an untrained toy. The old rows, and the ids of the old words, stay as
    they are.
    """
    old, tokenizer = model.llm, ToyTokenizer([*model.tokenizer.words, *words])
    llm = LLM(replace(old.config, vocab_size=len(tokenizer)))
    nn.init.normal_(llm.embed_tokens.weight, std=toy.EMBEDDING_STD)
    nn.init.normal_(llm.lm_head.weight, std=0.05)
    state, drawn = old.state_dict(), llm.state_dict()
    for name in ("embed_tokens.weight", "lm_head.weight"):
        state[name] = torch.cat([state[name], drawn[name][old.config.vocab_size :]])
    llm.load_state_dict(state)
    return DreamLLM(llm, model.vision, model.decoder, model.dream_queries, tokenizer, model.config)


def trained_parameter_count(phases: list[nn.Module]) -> int:
    """How many numbers all phases train, each counted once."""
    parameters = {parameter for phase in phases for parameter in phase.parameters()}
    return sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
