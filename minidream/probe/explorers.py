"""What needs the model to be explored: ablations, denoising, dreams to choose from, both hops.

The first three are widgets, whose controls only call a pure figure function with other numbers or
other pictures. The last is a page that needs no kernel.
"""

import itertools
import math

import numpy as np
import torch
from ipywidgets import Combobox, Layout
from matplotlib.figure import Figure
from torch import Tensor
from tqdm.auto import tqdm

from .. import plots
from ..documents import as_documents
from ..plots import plot_ablation, plot_choice, plot_denoising
from ..plots.controls import Explorer, Refused, Switches, slider
from .denoising import AT_ONCE, watch_denoising
from .indices import several
from .interventions import replaced
from .llm_attention import dream_attention
from .two_hop import two_hop
from .unet_attention import watch_image

SWITCHES = 16  # at most, of `explore_ablations`; more queries are switched in groups


class Ablations:
    """Pictures of one prompt without some of its queries, all from the same noise.

    Each is painted once and kept.

    Args:
        model: a DreamLLM. More than 16 queries are ablated in groups of consecutive ones.
        prompt: a str or Document.
        seed: of the noise.
        means: of each query over many prompts, shape (queries, hidden), as in `probe.ablate`; None
            puts zeros in their place.

    groups: the indices of the queries in each group.
    names: of the groups: "3", or "4–7" for several queries.

    Raises:
        ValueError: for means of another shape (both), or a prompt as in `DreamLLM.dream`.
    """

    def __init__(self, model, prompt, seed: int = 0, means: Tensor | None = None):
        size = math.ceil(model.queries / SWITCHES)
        self.groups = [
            range(first, min(first + size, model.queries))
            for first in range(0, model.queries, size)
        ]
        self.names = [
            f"{group[0]}–{group[-1]}" if len(group) > 1 else f"{group[0]}" for group in self.groups
        ]
        self.model, self.seed, self.whole = model, seed, model.encode([prompt])
        self.means = (
            torch.zeros_like(self.whole[0]) if means is None else means.to(self.whole.device)
        )
        if self.means.shape != self.whole.shape[1:]:
            raise ValueError(
                f"means of shape {tuple(self.means.shape)} were given; "
                f"it takes {tuple(self.whole.shape[1:])}"
            )
        self.kept: dict[tuple[int, ...], object] = {}

    def states(self, sets: list[tuple[int, ...]]) -> Tensor:
        """What `encode` returns inside `probe.ablate`, for sets of groups given by index.

        Returns:
            Shape (sets, queries, hidden).
        """
        return torch.cat([replaced(self.whole, self.queries(off), self.means) for off in sets])

    def queries(self, off: tuple[int, ...]) -> list[int]:
        """The indices of the queries of some groups, given by index."""
        return [query for index in off for query in self.groups[index]]

    def paint(self, sets: list[tuple[int, ...]], progress: bool = False) -> None:
        """Paints the pictures without each of several sets, if they are not kept already."""
        sets = [off for off in sets if off not in self.kept]
        batches = [sets[first : first + AT_ONCE] for first in range(0, len(sets), AT_ONCE)]
        for batch in tqdm(batches, desc="ablations", disable=not progress, leave=False):
            self.kept.update(
                zip(batch, self.model.paint(self.states(batch), [self.seed] * len(batch)))
            )

    def picture(self, off: tuple[int, ...]):
        """The picture without some groups, given by index in order: a PIL image."""
        self.paint([off])
        return self.kept[off]

    def singles(self) -> list:
        """Without each of the groups by itself: PIL images."""
        sets = [(number,) for number in range(len(self.groups))]
        self.paint(sets)
        return [self.kept[off] for off in sets]

    def change(self, off: tuple[int, ...]) -> np.ndarray:
        """Each pixel's absolute difference from the unchanged picture, averaged over colours.

        Returns:
            Shape (height, width), in [0, 1].
        """
        whole, other = (np.asarray(self.picture(groups), dtype=np.float32) for groups in ((), off))
        return np.abs(other - whole).mean(axis=-1) / 255


def explore_ablations(
    model, prompt, seed: int = 0, means: Tensor | None = None, progress: bool = True
) -> Explorer:
    """`plot_ablation` with a switch for each query, or for each group if there are more than 16.

    These pictures are painted in advance, with a progress bar if `progress` is True: the unchanged
    one, the one without each group and, if every group is a single query, without each two. Others
    are painted when they are asked for, and kept.

    Args, errors: as `Ablations`.
    """
    ablations = Ablations(model, prompt, seed, means)
    count = len(ablations.groups)
    at_once = (1, 2) if count == model.queries else (1,)
    ablations.paint(
        [
            off
            for together in (0, *at_once)
            for off in itertools.combinations(range(count), together)
        ],
        progress,
    )

    def draw(off: tuple[int, ...]) -> Figure:
        return plot_ablation(
            ablations.picture(()),
            ablations.picture(off),
            [ablations.names[number] for number in off],
            ablations.change(off),
        )

    return Explorer(draw, {"off": Switches("take away", ablations.names)})


def explore_denoising(model, prompt, seed: int = 0) -> Explorer:
    """`plot_denoising` with controls for the step and the query. All maps share one scale.

    The picture is painted once, and everything that can be shown is decoded in advance.

    Args:
        model: a DreamLLM.
        prompt: a str or Document.
        seed: of the noise.

    Raises:
        ValueError: for a prompt, as in `DreamLLM.dream`.
    """
    with watch_denoising(model) as seen, watch_image(model, steps=True) as looks:
        model.dream([prompt], seed)
    noisy, guesses = seen.pictures(model)
    maps = torch.stack([looks.mean(step=step) for step in range(looks.steps)]).numpy()

    def draw(step: int, query: int) -> Figure:
        return plot_denoising(
            noisy[step],
            guesses[step],
            maps[step, query],
            step,
            query,
            seen.timesteps[step],
            top=maps.max(),
        )

    steps, queries, _, _ = maps.shape
    return Explorer(
        draw, {"step": slider("step", range(steps)), "query": slider("query", range(queries))}
    )


def paint_dreams(model, prompt, seeds=(0, 1, 2, 3), guidance=(1, 2, 3, 5)) -> dict[float, list]:
    """A prompt painted from every seed with every guidance scale, all seeds in one batch.

    Args:
        model: a DreamLLM.
        prompt: a str or Document.
        seeds, guidance: one of each, or a list of as many as wanted.

    Returns:
        {guidance scale: PIL images, one for each seed}; `plot_film` draws them.

    Raises:
        ValueError: for a prompt, as in `DreamLLM.dream`.
    """
    seeds = several(seeds)
    states = model.encode([prompt]).expand(len(seeds), -1, -1)
    return {scale: model.paint(states, seeds, guidance_scale=scale) for scale in several(guidance)}


def explore_dreams(model, prompts, seeds=(0, 1, 2, 3), guidance=(1, 2, 3, 5)) -> Explorer:
    """`plot_choice` with controls for the prompt, the seed and the guidance scale.

    A prompt may also be typed. All its pictures are painted when it is chosen for the first time,
    and kept. If it cannot be painted, for example because the toy does not know a word, the last
    picture stays and the error is shown.

    Args:
        model: a DreamLLM.
        prompts: a str, or a list of them to choose from; the first is painted at once.
        seeds, guidance: as in `paint_dreams`.

    Raises:
        ValueError: for one of the prompts, as in `DreamLLM.dream`.
    """
    painted: dict[str, dict[float, list]] = {}

    def draw(prompt: str, seed: int, guidance: float) -> Figure:
        if prompt not in painted:
            try:
                model.prompt_layout(prompt)
            except ValueError as error:
                raise Refused(str(error)) from error
            painted[prompt] = paint_dreams(model, prompt, seeds, scales)
        return plot_choice(
            painted[prompt][guidance][seeds.index(seed)],
            prompt,
            f"seed {seed}, guidance scale {guidance:g}",
        )

    prompts, scales, seeds = several(prompts), several(guidance), several(seeds)
    for prompt in prompts:
        model.prompt_layout(prompt)
    box = Combobox(
        description="prompt",
        options=prompts,
        value=prompts[0],
        continuous_update=False,
        ensure_option=False,
        layout=Layout(width="98%"),
    )
    return Explorer(
        draw, {"prompt": box, "seed": slider("seed", seeds), "guidance": slider("guidance", scales)}
    )


HOW_TO_READ = (
    "Each cell of the picture attends to the dream queries, and each query attends to the words. "
    "Both hops together say from which words a cell came. Attention shows where a picture could "
    "have come from; whether it did, only an intervention tells."
)


def two_hop_page(model, prompts, seed: int = 0) -> str:
    """A page of HTML in which a word, a query or a cell shows what it is connected with.

    Written to a file, it opens in any browser, without a kernel or a network. Layers, heads and
    steps are averaged.

    Args:
        model: a DreamLLM.
        prompts: a str or Document, or a list of them; the reader chooses one.
        seed: of the noise of the first picture; the next has the next seed.

    Raises:
        TypeError, ValueError: for a prompt, as in `DreamLLM.dream`.
    """
    documents = as_documents(prompts)
    with watch_image(model) as maps:
        pictures = model.dream(documents, seed)
    traces = dream_attention(model, documents)
    dreams = []
    for index, (document, trace) in enumerate(zip(documents, traces)):
        prompt = " ".join(item if isinstance(item, str) else "[image]" for item in document.items)
        hops = two_hop(trace, maps, picture=index)
        apart = (maps.mean(index), trace.mean())
        dreams.append((prompt, (pictures[index], hops, trace.inputs, apart)))
    return plots.two_hop_page(dreams, "From words to a picture, through the queries", HOW_TO_READ)
