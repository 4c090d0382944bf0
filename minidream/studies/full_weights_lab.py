"""What the ten questions to the full weights share: prompts, control queries, maps and pictures."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ..diffusion import normal
from ..documents import Document
from ..images import to_pil
from ..probe.effects import on_cells
from ..probe.interventions import replaced
from ..probe.llm_attention import Trace, dream_attention
from ..probe.positions import Positions, positions
from ..probe.two_hop import two_hop
from ..probe.unet_attention import ImageMaps, watch_image
from ..world.language import Phrase, describe
from ..world.render import render
from ..world.scenes import COLOURS, SHAPES, SIZES, Scene, sample_scene

CHUNK = 4  # prompts that are encoded together: little memory, and still quick on a GPU
FINE = 8  # pixels of a rendered mask along a side of a patch
ANOTHER = 1_000_000  # what is added to a seed for other noise


def scenes_for(count: int) -> list[Scene]:
    """Scenes of two objects of different colours and shapes, the same in every call."""
    rng, found = random.Random("full weights"), []
    while len(found) < count:
        scene = sample_scene(rng, count=2)
        first, second = scene.objects
        if first.colour != second.colour and first.shape != second.shape:
            found.append(scene)
    return found


def partner_of(scene: Scene) -> Scene:
    """A scene with the same arrangement, in which every word that describes an object differs."""

    def others(known, used: list[str]) -> list[str]:
        return [word for word in known if word not in used]

    colours = others(COLOURS, [item.colour for item in scene.objects])
    shapes = others(SHAPES, [item.shape for item in scene.objects])
    objects = [
        replace(item, colour=colour, shape=shape, size=others(SIZES, [item.size])[0], radius=None)
        for item, colour, shape in zip(scene.objects, colours, shapes)
    ]
    return replace(scene, objects=tuple(objects))


@contextmanager
def drawn_queries(model, seed: int | None) -> Iterator[None]:
    """Replaces the dream queries by random ones, with the same standard deviation, for a while.

    The drawn ones have learned nothing, and all else in the model stays as it is.

    Args:
        model: a DreamLLM.
        seed: of the draw; None leaves the model's own queries.
    """
    own = model.dream_queries.data
    if seed is not None:
        new = normal(own.shape, torch.Generator().manual_seed(seed))
        model.dream_queries.data = (new * own.float().std().cpu()).to(own)
    try:
        yield
    finally:
        model.dream_queries.data = own


@dataclass
class Asked:
    """One prompt, as a model reads and paints it. What is needed is made once.

    lab: the model and its prompts.
    scene: what the prompt describes.
    prompt: its index.
    """

    lab: "Lab"
    scene: Scene
    prompt: int

    @property
    def model(self):
        """The DreamLLM."""
        return self.lab.model

    @cached_property
    def partner(self) -> "Asked":
        """The prompt with other words in the same places; see `partner_of`."""
        return Asked(self.lab, partner_of(self.scene), self.prompt)

    @property
    def draws(self) -> list[torch.Generator]:
        """Generators for random controls, the same in every call."""
        seeds = [1000 * self.prompt + draw for draw in range(self.lab.draws)]
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    @cached_property
    def phrase(self) -> Phrase:
        """The prompt, with what each of its words says."""
        return describe(self.scene, background=True)

    def trace(self) -> Trace:
        """Where the present queries look in the prompt."""
        return dream_attention(self.model, self.phrase.text)

    @cached_property
    def seen(self) -> Trace:
        """Where the model's own queries look in the prompt."""
        return self.trace()

    @cached_property
    def where(self) -> Positions:
        """The positions of the prompt's words."""
        return positions(self.model, self.phrase.text)

    def words(self, *kinds: str) -> list[list[int]]:
        """The positions of every word of some kinds of roles, in reading order."""
        found, before = [], []
        for word, role in zip(self.phrase.words, self.phrase.roles):
            if role and role[0] in kinds:
                found.append(self.where.words(word, before.count(word)))
            before.append(word)
        return found

    @cached_property
    def with_image(self) -> Trace:
        """Where the queries look if the scene is given as an image, and the words are an edit."""
        image = to_pil(render([self.scene], self.model.decoder.image_size)[0])[0]
        document = Document([image, "the same on a white background"])
        return dream_attention(self.model, document)

    @property
    def states(self) -> Tensor:
        """What the queries gathered, shape (1, queries, hidden)."""
        return self.model.encode([self.phrase.text])

    def paint(self, states: Tensor, seed: int) -> Tensor:
        """Pictures from states, all with the same noise; (batch, 3, height, width) in [0, 1]."""
        seeds = [seed] * len(states)
        steps = self.lab.steps
        painted = self.model.paint(states, seeds, num_inference_steps=steps, output_type="pt")
        return torch.stack(painted).float().cpu()

    @cached_property
    def painted(self) -> tuple[Tensor, ImageMaps]:
        """The picture, and where its latent cells look among the queries."""
        with watch_image(self.model) as maps:
            picture = self.paint(self.states, self.prompt)[0]
        return picture, maps

    @cached_property
    def painted_anew(self) -> Tensor:
        """The picture that other noise gives."""
        return self.paint(self.states, self.prompt + ANOTHER)[0]

    @cached_property
    def hops(self) -> Tensor:
        """Where latent cells look among the inputs, shape (inputs, height, width)."""
        return two_hop(self.seen, self.painted[1])

    def without(self, *groups: list[int]) -> Tensor:
        """Pictures without some of the queries: their mean over all prompts takes their place.

        Args:
            groups: indices of queries, for each picture.
        """
        states = [replaced(self.states, group, self.lab.means) for group in groups]
        return self.paint(torch.cat(states), self.prompt)


class Lab:
    """A model and its prompts.

    Args:
        model: a DreamLLM.
        prompts: how many.
        draws: how many random controls for each number.
        steps: denoising steps of a picture.
    """

    def __init__(self, model, prompts: int, draws: int, steps: int):
        self.model, self.draws, self.steps = model, draws, steps
        self.prompts = prompts
        self.scenes = scenes_for(prompts + draws)  # those beyond the prompts serve as controls
        self.kept: Asked | None = None

    def asked(self, prompt: int) -> Asked:
        """A prompt by its index; what was made for the last one is kept."""
        if self.kept is None or self.kept.prompt != prompt:
            self.kept = Asked(self, self.scenes[prompt], prompt)
        return self.kept

    def covered(self, prompt: int) -> Tensor:
        """How much of each patch the objects of a scene cover, (height, width), in [0, 1]."""
        grid = self.model.vision.grid
        masks = render([self.scenes[prompt]], FINE * grid)[1][0, :2]
        return on_cells(masks.amax(dim=0, keepdim=True), grid, grid)[0]

    @cached_property
    def means(self) -> Tensor:
        """The mean state of every query over all scenes, shape (queries, hidden)."""
        texts = [Asked(self, scene, 0).phrase.text for scene in self.scenes]
        chunks = [texts[first : first + CHUNK] for first in range(0, len(texts), CHUNK)]
        return torch.cat([self.model.encode(chunk) for chunk in chunks]).mean(dim=0)
