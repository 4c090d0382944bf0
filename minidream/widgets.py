"""Interactive explorers: controls that do nothing but call a pure figure function with other numbers, or other pictures."""

import gc
import html
import io
import itertools
import math
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
import traitlets
from ipywidgets import HTML, Combobox, HBox, Image, Label, Layout, SelectionSlider, ToggleButton, VBox, Widget
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor
from tqdm.auto import tqdm

from .plots import plot_ablation, plot_choice, plot_denoising, plot_hop, plot_pictures, plot_trace, sources
from .plots.exploring import shares_of
from .probe import watch_image
from .probe.interventions import replaced
from .world.render import to_pil

AT_ONCE = 8         # pictures in one batch: with more it is hardly faster on a CPU, and full-size ones still fit
SWITCHES = 16       # of an ablation bench; more queries are switched in groups


class Refused(Exception):
    """What a reader typed cannot be drawn; the message says why."""


class Explorer(VBox):
    """Controls over a figure, which is drawn anew when one of them moves.

    An error in the first drawing is raised; a later one is raised too, and shown in the place of the figure, since no
    cell is left to show it. `Refused` is no error: its message is shown, and the last figure stays. The figure is an image widget
    and not, as in `ipywidgets.interactive`, an output widget: nbclient, which runs notebooks without a browser, waits for ever
    when a reply comes while it answers one of those.

    Args:
        draw: called with the values of all controls by name; gives a figure.
        controls: the widgets that are moved, by name; whatever has a `value`.
    """

    def __init__(self, draw: Callable[..., Figure], controls: dict[str, Widget]):
        self.draw, self.controls = draw, controls
        self.places: dict[tuple, tuple] = {}        # by setting, and of the last figure of each size: where its parts stand
        self.latest: dict[tuple, tuple] = {}
        # At its own size: a box would stretch a narrow figure to its width.
        self.picture, self.problem = Image(format="png", layout=Layout(max_width="100%", align_self="flex-start")), HTML()
        super().__init__([HBox(list(controls.values()), layout=Layout(flex_flow="row wrap")), self.problem, self.picture])
        self.redraw()
        for control in controls.values():
            control.observe(self.redraw, names="value")

    def redraw(self, change=None) -> None:
        """Draws what the controls say; `change` is what ipywidgets reports, and is not needed."""
        try:
            with garbage_kept():
                self.picture.value = self.png({name: control.value for name, control in self.controls.items()})
        except Refused as refusal:
            self.problem.value = html.escape(str(refusal))
        except Exception as error:
            self.picture.value, self.problem.value = b"", f"<b>{type(error).__name__}</b>: {html.escape(str(error))}"
            raise
        else:
            self.problem.value = ""

    def png(self, setting: dict) -> bytes:
        """The figure of a setting, as PNG.

        Finding a place for everything takes nearly half of the time of a figure. So everything stays where it was in the last
        figure of this size, unless something would then reach over the edge. What was shown once looks the same again.
        """
        figure = self.draw(**setting)
        size, chosen = (*figure.get_size_inches(), len(figure.axes)), tuple(setting.values())
        known = self.places.get(chosen, self.latest.get(size))
        if known is not None:
            put(figure, known)
            png, pixels = rasterized(figure)
            if all((edge == 255).all() for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])):
                self.places[chosen] = known
                return png
            figure = self.draw(**setting)
            figure.get_layout_engine().set(rect=(0.01, 0, 0.95, 1))     # with room to spare: the next labels may be longer still
        png, _ = rasterized(figure)
        self.places[chosen] = self.latest[size] = places_in(figure)
        return png

    def __repr__(self) -> str:
        """What stands for the widget where no kernel runs: on paper, on GitHub."""
        return f"Controls for {', '.join(self.controls)}: they move while the notebook runs in Jupyter."


@contextmanager
def garbage_kept():
    """Puts off the collection of garbage to the end of the `with` block.

    A figure leaves much of it, and to look through all that torch and a model hold takes longer than to draw: it can wait
    until the picture is out.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def rasterized(figure: Figure) -> tuple[bytes, np.ndarray]:
    """A figure as PNG, and its pixels, shape (height, width, 4): what `savefig` writes, which draws everything twice."""
    canvas, file = FigureCanvasAgg(figure), io.BytesIO()
    canvas.print_png(file)
    return file.getvalue(), np.asarray(canvas.buffer_rgba())


def places_in(figure: Figure) -> tuple[list, list]:
    """Where axes and titles of a figure stand that was drawn: boxes in pixels, and (x, y) in parts of the figure."""
    return ([axis.get_position(original=True).transformed(axis.figure.transSubfigure) for axis in figure.axes],
            [text.get_position() for text in figure.texts])


def put(figure: Figure, places: tuple[list, list]) -> None:
    """Puts axes and titles of a figure at the places of another of the same size."""
    figure.set_layout_engine("none")
    for axis, box in zip(figure.axes, places[0]):
        axis.set_position(box.transformed(axis.figure.transSubfigure.inverted()))
    for text, place in zip(figure.texts, places[1]):
        text.set_position(place)


def slider(name: str, options, value=None) -> SelectionSlider:
    """A slider over options; it starts at `value`, or at the first of them."""
    options = list(options)
    return SelectionSlider(description=name, options=options, value=options[0] if value is None else value,
                           continuous_update=False,                         # a drag draws once
                           style={"description_width": "initial"}, layout=Layout(width="20em"))     # three fit beside one another


class Switches(HBox):
    """A row of buttons; `value` is a tuple of the numbers of those that are pressed, in order.

    Args:
        name: what is switched.
        names: one for each button.
    """
    value = traitlets.Tuple()

    def __init__(self, name: str, names: list[str]):
        self.buttons = [ToggleButton(description=each, layout=Layout(width="auto", min_width="2.6em")) for each in names]
        super().__init__([Label(name), *self.buttons], layout=Layout(flex_flow="row wrap"))
        for button in self.buttons:
            button.observe(self.gather, names="value")

    def gather(self, change) -> None:
        """A button was pressed or let go: only its own number changes, so that `press` can move several without a value between."""
        number = self.buttons.index(change["owner"])
        self.value = tuple(sorted({*self.value, number} if change["new"] else {*self.value} - {number}))

    @traitlets.observe("value")
    def press(self, change) -> None:
        """The value changed: the buttons follow."""
        for number, button in enumerate(self.buttons):
            button.value = number in change["new"]


# ---------------------------------------------------------------------------------------------------------------------
# What is there already: attention, pictures

def explore_trace(trace) -> Explorer:
    """`plot_trace` with a control each for layer, head and query; the first setting of each takes all together.

    Nothing runs the model: the trace holds every layer and head, and a move only draws.

    Args:
        trace: a `probe.Trace`.
    """
    def draw(layer: int | str, head: int | str, query: int | str) -> Figure:
        return plot_trace(trace, *(None if isinstance(setting, str) else setting for setting in (layer, head, query)))

    layers, heads, queries, _ = trace.weights.shape
    return Explorer(draw, {"layer": slider("layer", ["mean", *range(layers)]), "head": slider("head", ["mean", *range(heads)]),
                           "query": slider("query", ["all", *range(queries)])})


def explore_pictures(pictures: dict[float, list], name: str, titles: list[str] | None = None) -> Explorer:
    """`plot_pictures` with one control, which says which of several lists of pictures is shown.

    Nothing is painted: all pictures are there, and a move only draws.

    Args:
        pictures: {value of the control: PIL images}; at least one value.
        name: what the control sets.
        titles: one for each picture of a list.
    """
    def draw(**setting) -> Figure:
        return plot_pictures(pictures[setting[name]], titles, suptitle=f"{name} {setting[name]}")

    return Explorer(draw, {name: slider(name, pictures)})


def explore_two_hops(image, hops, inputs: list) -> Explorer:
    """`plot_hop` with controls for the word, whose cells are shown, and for row and column of the cell, whose words are shown.

    It starts at the word whose share differs most between cells, and at the cell where it is greatest.

    Args:
        image: what was painted, a PIL image.
        hops: from `probe.two_hop`, shape (inputs, height, width) in latent cells, in [0, 1].
        inputs: a label per input, as `probe.Trace.inputs`.

    Raises:
        ValueError: if there are not as many maps as inputs (both numbers), or neither a word nor a patch is among them.
    """
    def draw(word: str, row: int, column: int) -> Figure:
        return plot_hop(image, hops, inputs, word, (row, column))

    maps = shares_of(hops, inputs, sources(inputs))
    telling = max(maps, key=lambda name: np.ptp(maps[name]))
    height, width = maps[telling].shape
    row, column = divmod(int(maps[telling].argmax()), width)
    return Explorer(draw, {"word": slider("word", maps, telling), "row": slider("row", range(height), row),
                           "column": slider("column", range(width), column)})


# ---------------------------------------------------------------------------------------------------------------------
# What is painted for it

class Ablations:
    """Pictures of one prompt without some of its queries, all from the same noise. What was painted once is kept.

    Args:
        model: a DreamLLM. With more than 16 queries, several that follow one another make up a group, which is taken away as one.
        prompt: a str or Document.
        seed: of the noise.
        means: of each query over many prompts, shape (queries, hidden), as in `probe.ablate`; None puts zeros in their place.

    groups: the numbers of the queries in each group. names: of the groups: "3", or "4–7" for several queries.

    Raises:
        ValueError: for means of another shape (both), or a prompt as in `DreamLLM.dream`.
    """

    def __init__(self, model, prompt, seed: int = 0, means: Tensor | None = None):
        size = math.ceil(model.queries / SWITCHES)
        self.groups = [range(first, min(first + size, model.queries)) for first in range(0, model.queries, size)]
        self.names = [f"{group[0]}–{group[-1]}" if len(group) > 1 else f"{group[0]}" for group in self.groups]
        self.model, self.seed, self.whole = model, seed, model.encode([prompt])
        self.means = torch.zeros_like(self.whole[0]) if means is None else means.to(self.whole.device)
        if self.means.shape != self.whole.shape[1:]:
            raise ValueError(f"means of shape {tuple(self.means.shape)} were given; it takes {tuple(self.whole.shape[1:])}")
        self.kept: dict[tuple[int, ...], object] = {}

    def states(self, sets: list[tuple[int, ...]]) -> Tensor:
        """What `encode` would give inside of `probe.ablate`, for sets of groups, by number: shape (sets, queries, hidden)."""
        return torch.cat([replaced(self.whole, [query for number in off for query in self.groups[number]], self.means) for off in sets])

    def paint(self, sets: list[tuple[int, ...]], progress: bool = False) -> None:
        """Paints the picture without each of several sets, those that are kept already left out; on demand it shows a bar."""
        sets = [off for off in sets if off not in self.kept]
        batches = [sets[first:first + AT_ONCE] for first in range(0, len(sets), AT_ONCE)]
        for batch in tqdm(batches, desc="ablations", disable=not progress, leave=False):
            self.kept.update(zip(batch, self.model.paint(self.states(batch), [self.seed] * len(batch))))

    def picture(self, off: tuple[int, ...]):
        """Without some groups, by number in order: a PIL image."""
        self.paint([off])
        return self.kept[off]

    def singles(self) -> list:
        """Without each of the groups by itself: PIL images, for `plot_single_ablations`."""
        sets = [(number,) for number in range(len(self.groups))]
        self.paint(sets)
        return [self.kept[off] for off in sets]

    def change(self, off: tuple[int, ...]) -> np.ndarray:
        """How far each pixel is from that of the whole picture: mean of the colours, shape (height, width), in [0, 1]."""
        whole, other = (np.asarray(self.picture(groups), dtype=np.float32) for groups in ((), off))
        return np.abs(other - whole).mean(axis=-1) / 255


def explore_ablations(model, prompt, seed: int = 0, means: Tensor | None = None, progress: bool = True) -> Explorer:
    """An ablation bench: `plot_ablation` with a switch for each query, or for each group of them if there are more than 16.

    Painted beforehand, under a bar if `progress` says so: the whole picture, the one without each query and, where queries stand alone, without
    each two. Without more of them it is painted when it is asked for, and kept.

    Args, errors: as `Ablations`.
    """
    ablations = Ablations(model, prompt, seed, means)
    count = len(ablations.groups)
    at_once = (1, 2) if count == model.queries else (1,)
    ablations.paint([off for together in (0, *at_once) for off in itertools.combinations(range(count), together)], progress)

    def draw(off: tuple[int, ...]) -> Figure:
        return plot_ablation(ablations.picture(()), ablations.picture(off), [ablations.names[number] for number in off], ablations.change(off))

    return Explorer(draw, {"off": Switches("take away", ablations.names)})


@dataclass
class Denoising:
    """What `watch_denoising` saw.

    timesteps: of each step, falling.
    latents: what stood before each step, and at last what came out: one more than steps, shape (pictures, channels, height, width).
    guesses: at each step, the clean latents that the model took the noisy ones to be. The last is nearly what came out: some
        schedules, the toy's among them, stop a little short of no noise at all.
    """
    timesteps: list[int] = field(default_factory=list)
    latents: list[Tensor] = field(default_factory=list)
    guesses: list[Tensor] = field(default_factory=list)

    @torch.no_grad()
    def pictures(self, model, picture: int = 0) -> tuple[list, list]:
        """What stood before each step, and what it was taken to be, of one picture of the batch, through the VAE: two lists of PIL images."""
        def decode(latents: list[Tensor]) -> list:
            chosen = torch.stack([each[picture] for each in latents])
            return [image for part in chosen.split(AT_ONCE) for image in to_pil(model.decoder.decode(part))]

        return decode(self.latents[:-1]), decode(self.guesses)


@contextmanager
def watch_denoising(model):
    """Records what sampling does to latents, step by step, while one batch of pictures is painted inside the `with` block.

    It stands here and not among the probes, as it is no attention and no state, and only shows what the scheduler reports anyway.

    Args:
        model: a DreamLLM.

    Yields:
        A `Denoising`, which grows by one step at a time.

    Raises:
        RuntimeError: at the end, if nothing was painted; at once, if a second batch is.
    """
    scheduler, seen = model.decoder.scheduler, Denoising()
    step, watched = scheduler.step, "step" in vars(scheduler)       # by an outer block

    def record(noise_pred: Tensor, timestep, latents: Tensor, **options):
        if seen.timesteps and timestep >= seen.timesteps[-1]:
            raise RuntimeError("one block watches one batch of pictures, and a second one was begun in it")
        output = step(noise_pred, timestep, latents, **options)
        seen.timesteps.append(int(timestep))
        seen.latents[-1:] = [latents, output.prev_sample]       # what came out of one step stands before the next
        seen.guesses.append(output.pred_original_sample)
        return output

    scheduler.step = record
    try:
        yield seen
    finally:
        if watched:
            scheduler.step = step
        else:
            del scheduler.step
    if not seen.timesteps:
        raise RuntimeError("no picture was painted inside the `with` block")


def explore_denoising(model, prompt, seed: int = 0) -> Explorer:
    """A denoising scrubber: `plot_denoising` with controls for the step and the query. All maps share one scale.

    The picture is painted once; all that is shown is decoded beforehand.

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
        return plot_denoising(noisy[step], guesses[step], maps[step, query], step, query, seen.timesteps[step], top=maps.max())

    steps, queries, _, _ = maps.shape
    return Explorer(draw, {"step": slider("step", range(steps)), "query": slider("query", range(queries))})


def paint_dreams(model, prompt, seeds=(0, 1, 2, 3), guidance=(1, 2, 3, 5)) -> dict[float, list]:
    """A prompt painted from every seed with every guidance scale, all seeds at once: {guidance scale: PIL images, one for each seed}.

    `plot_film` makes a figure of them.

    Args:
        model: a DreamLLM.
        prompt: a str or Document.
        seeds, guidance: as many as wanted, at least one of each.

    Raises:
        ValueError: for a prompt, as in `DreamLLM.dream`.
    """
    states = model.encode([prompt]).expand(len(seeds), -1, -1)
    return {scale: model.paint(states, list(seeds), guidance_scale=scale) for scale in guidance}


def explore_dreams(model, prompts: list[str], seeds=(0, 1, 2, 3), guidance=(1, 2, 3, 5)) -> Explorer:
    """A playground: `plot_choice` with controls for the prompt, the seed and the guidance scale.

    A prompt may also be typed. All its pictures are painted when it is chosen for the first time, and kept. One that cannot be
    painted, with a word that the toy does not know say, leaves the last picture, and what is wrong with it is shown.

    Args:
        model: a DreamLLM.
        prompts: to choose from, at least one; the first is painted at once.
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
        return plot_choice(painted[prompt][guidance][seeds.index(seed)], prompt, f"seed {seed}, guidance scale {guidance:g}")

    scales, seeds = list(guidance), list(seeds)
    for prompt in prompts:
        model.prompt_layout(prompt)
    box = Combobox(description="prompt", options=list(prompts), value=prompts[0], continuous_update=False, ensure_option=False,
                   layout=Layout(width="98%"))
    return Explorer(draw, {"prompt": box, "seed": slider("seed", seeds), "guidance": slider("guidance", scales)})
