"""What is measured of dream queries in the study of query counts: losses, and judged pictures."""

import random

import torch
from torch import Tensor
from torch.nn import functional as F

from ..model import DreamLLM
from ..weights import toy
from ..weights.toy import clip_text_states, paint_from_text_states
from ..world.language import describe, parse_caption
from ..world.render import render
from ..world.scenes import sample_scene
from .query_training import conditions

# Kind of prompt -> (number of objects, held-out combinations).
PROMPT_KINDS = {
    "one, seen": (1, False),
    "two, seen": (2, False),
    "one, held out": (1, True),
    "two, held out": (2, True),
}
LOOK = ("size", "colour", "shape")
ATTRIBUTES = ("count", *LOOK, "background", "all")


def words_of(facts: tuple | None, attribute: str):
    """What facts, as in `Scene.facts`, say of one attribute; None for None.

    Sizes, colours and shapes are sorted, so that the positions of the objects do not matter.
    """
    if facts is None:
        return None
    background, _, looks = facts
    if attribute == "background":
        return background
    if attribute == "count":
        return len(looks)
    return sorted(look[LOOK.index(attribute)] for look in looks)


def right_by_attribute(readings: list[tuple | None], wanted: list[tuple]) -> dict[str, int]:
    """How many pictures are right in each attribute, and in all of them with the relation.

    Args:
        readings: what a reader found, as `Scene.facts`; None where it found no scene.
        wanted: what the prompts state, including the background.
    """
    pairs = list(zip(readings, wanted, strict=True))

    def count(attribute: str) -> int:
        return sum(
            words_of(found, attribute) == words_of(facts, attribute) for found, facts in pairs
        )

    counts = {attribute: count(attribute) for attribute in ATTRIBUTES if attribute != "all"}
    return counts | {"all": sum(found == facts for found, facts in pairs)}


class QueryEvaluation:
    """An evaluation with the same fresh prompts, pictures and noise for every run.

    Args:
        prompts: painted and judged, of every kind.
        noises: for each picture, for the denoising loss.
        device: where pictures are painted and judged.
    """

    def __init__(self, prompts: int, noises: int, device="cpu"):
        self.noises = noises
        self.judge = toy.pretrained_judge().to(device)
        self.text_tower = toy.pretrained_text_tower().to(device)
        self.scenes, self.captions = {}, {}
        for kind, (objects, held_out) in PROMPT_KINDS.items():
            rng = random.Random(f"studies {kind}")
            scenes = [sample_scene(rng, held_out, objects) for _ in range(prompts)]
            self.scenes[kind] = scenes
            self.captions[kind] = [describe(scene, rng, background=True).text for scene in scenes]

    @torch.no_grad()
    def scores(self, model: DreamLLM, true_states: bool = False) -> dict:
        """Denoising loss, distance from CLIP's text states, and judged pictures, by kind of prompt.

        Args:
            model: whose dream queries are evaluated.
            true_states: give the U-Net CLIP's text states instead of the queries.

        Returns:
            {kind: {"denoising": loss, "imitation": mean squared error, or None where the numbers of
            states differ, "n": prompts, "right": {attribute: how many}}}.
        """

        def text_states(captions: list[str]) -> Tensor:
            return clip_text_states(self.text_tower, model.tokenizer, captions)

        def given_states(captions: list[str]) -> Tensor:
            return text_states(captions) if true_states else conditions(model, captions)

        found, null = {}, given_states([""])
        for kind, captions in self.captions.items():
            states, wanted = given_states(captions), text_states(captions)
            alike = states.shape == wanted.shape
            readings = self.judge.read(paint_from_text_states(model.decoder, states, null))
            found[kind] = {
                "denoising": round(self.denoising_loss(model.decoder, kind, states), 5),
                "imitation": round(F.mse_loss(states, wanted).item(), 5) if alike else None,
                "n": len(captions),
                "right": right_by_attribute(
                    [reading.facts for reading in readings],
                    [parse_caption(caption) for caption in captions],
                ),
            }
        return found

    def denoising_loss(self, decoder, kind: str, states: Tensor) -> float:
        """The mean over several draws of noise, on renders of the scenes."""
        images = render(self.scenes[kind], toy.IMAGE_SIZE)[0].to(decoder.device)
        latents = decoder.encode_images(images * 2 - 1)
        generators = [torch.Generator().manual_seed(noise) for noise in range(self.noises)]
        losses = [decoder.loss(latents, states, generator).item() for generator in generators]
        return sum(losses) / len(losses)
