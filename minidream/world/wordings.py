"""Captions in varied words, of which some kinds are more frequent than others."""

import random

from .language import Phrase, describe
from .scenes import Scene


def is_leading(scene: Scene, index: int) -> bool:
    """Whether an object is the left or the upper one of its scene, or the only one."""
    return scene.relation_of(index) in (None, "left of", "above")


def varied_caption(
    scene: Scene,
    rng: random.Random,
    leading: float = 0.5,
    between: float = 0.5,
    background: bool | None = None,
) -> Phrase:
    """A caption in randomly drawn words, where two kinds of wording can be made more frequent.

    If all wordings are equally frequent, neither the relation nor the order of the names alone says
    anything about positions; only both together do. Gradient descent learns such a parity late or
    never, because no single step towards it lowers the loss. If more than half of the captions are
    of one kind, each cue alone is informative, and the rest can be learned as exceptions.

    Args:
        scene: what to describe.
        rng: draws the words.
        leading: the share of captions that name the left or upper object first, in [0.5, 1].
        between: the share of captions with the relation between the names, "a star left of a
            ring", in [0.5, 1].
        background: whether the background is named; None: at random.
    """
    while True:
        caption = describe(scene, rng, background)
        if scene.relation is None:
            return caption
        named = [role for role in caption.roles if role and role[0] in ("shape", "relation")]
        first_object = next(index for kind, index in named if kind == "shape")
        relation_between = [kind for kind, _ in named[:2]] == ["shape", "relation"]
        if accept(is_leading(scene, first_object), leading, rng) and accept(
            relation_between, between, rng
        ):
            return caption


def accept(preferred: bool, share: float, rng: random.Random) -> bool:
    """Whether rejection sampling keeps a sample, so that a share of the kept ones is preferred.

    Args:
        preferred: whether this sample is a preferred one. Half of all samples are.
        share: of the preferred samples among those kept, in [0.5, 1].
        rng: decides about the others.
    """
    return preferred or rng.random() < (1 - share) / share


# What prompts leave out, and how often: mostly nothing.
LEFT_OUT = {(): 5, ("size",): 2, ("size", "colour"): 1}


def prompt_for(scene: Scene, rng: random.Random, leading: float, between: float) -> str:
    """A `varied_caption` that may leave things out, as people do: "a ring above a red square".

    Three in eight say nothing of sizes, a third of these nothing of colours either, and a quarter
    does not say where two objects are: "a large orange ring and a small red square".

    Args:
        scene: what to ask for.
        rng: draws the words.
        leading: as in `varied_caption`.
        between: as in `varied_caption`.
    """
    (left_out,) = rng.choices(list(LEFT_OUT), list(LEFT_OUT.values()))
    if rng.random() < 1 / 4:
        caption = describe(scene, rng, relation=False)
    else:
        caption = varied_caption(scene, rng, leading, between)
    return caption.without(*left_out).text
