"""The explorers: every setting of their controls draws the right figure of real pictures."""

import base64
import copy
import gc
import html
import io
import itertools
import json
import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from einops import rearrange
from figures import STORY, image, meshes, read, texts, trace
from ipywidgets import Output, Widget
from models_shared import untrained_toy
from PIL import Image
from test_plots_two_hops import bars

import minidream
from minidream import probe
from minidream.diffusion import picture_noise
from minidream.images import to_pil
from minidream.plots import groups, plot_film, plot_hop, plot_pictures, plot_trace
from minidream.plots.controls import (
    Explorer,
    Refused,
    Switches,
    explore_pictures,
    explore_trace,
    explore_two_hops,
    garbage_kept,
    slider,
)
from minidream.plots.drawing import figure_function
from minidream.probe import Trace
from minidream.probe.denoising import watch_denoising
from minidream.probe.explorers import (
    Ablations,
    explore_ablations,
    explore_denoising,
    explore_dreams,
    paint_dreams,
    two_hop_page,
)


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def test_controls_offer_all_together_first_and_then_every_number():
    explorer = explore_trace(trace(STORY))
    offered = {name: control.options for name, control in explorer.controls.items()}
    assert offered == {
        "layer": ("mean", 0, 1),
        "head": ("mean", 0, 1, 2),
        "query": ("all", 0, 1, 2, 3, 4),
    }
    assert [control.value for control in explorer.controls.values()] == ["mean", "mean", "all"]


def test_every_setting_draws_its_figure():
    seen = trace(["<s>", "red", "star"], queries=2, layers=2, heads=1)
    explorer, drawn = explore_trace(seen), []
    draw = explorer.draw
    explorer.draw = lambda **setting: drawn.append(draw(**setting)) or drawn[-1]
    for setting in itertools.product(*(control.options for control in explorer.controls.values())):
        for control, value in zip(explorer.controls.values(), setting):
            control.value = value
        expected = plot_trace(
            seen, *(None if value in ("mean", "all") else value for value in setting)
        )
        for one, wanted in zip(
            meshes(drawn[-1] if drawn else draw(*setting)), meshes(expected), strict=True
        ):
            np.testing.assert_array_equal(one, wanted)
    assert len(drawn) >= 3 * 2 * 3 - 1  # the first setting was drawn before we watched


def test_what_is_shown_is_the_figure_and_moves_with_the_controls():
    seen = trace(STORY)
    explorer = explore_trace(seen)
    first = pixels(explorer.picture.value)
    file = io.BytesIO()
    plot_trace(seen).savefig(file)
    np.testing.assert_array_equal(first, pixels(file.getvalue()))
    explorer.controls["head"].value = 1
    assert (
        pixels(explorer.picture.value).shape == first.shape
        and (pixels(explorer.picture.value) != first).any()
    )
    explorer.controls["head"].value = "mean"
    np.testing.assert_array_equal(pixels(explorer.picture.value), first)


def test_errors_surface_at_once_and_after_a_move():
    explorer = explore_trace(trace(STORY))
    explorer.controls["layer"].options = ["mean", 9]
    with pytest.raises(ValueError, match="layer 9 was asked for; the trace has 2"):
        explorer.controls["layer"].value = 9
    assert "layer 9 was asked for" in explorer.problem.value and not explorer.picture.value
    explorer.controls["layer"].value = "mean"
    assert not explorer.problem.value and explorer.picture.value
    with pytest.raises(ValueError):
        explore_trace(Trace(torch.ones(1, 1, 1), [0]))  # not four axes


def test_trace_explore_explains_itself_where_no_kernel_runs():
    explorer = Trace(torch.ones(1, 1, 1, 1), [0]).explore()
    assert (
        repr(explorer)
        == "Controls for layer, head, query: they move while the notebook runs in Jupyter."
    )

    def inside(widget):
        return [
            widget,
            *(held for child in getattr(widget, "children", ()) for held in inside(child)),
        ]

    assert all(isinstance(widget, Widget) for widget in inside(explorer))
    assert not any(
        isinstance(widget, Output) for widget in inside(explorer)
    )  # see Explorer: nbclient hangs on them


def test_a_widget_is_its_picture_where_no_kernel_runs():
    explorer = explore_trace(trace(STORY))
    first = explorer._repr_mimebundle_()
    assert base64.b64decode(first["image/png"]) == explorer.picture.value
    assert first["text/plain"] == repr(explorer)
    assert first["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.model_id
    explorer.controls["head"].value = 1
    assert base64.b64decode(explorer._repr_mimebundle_()["image/png"]) == explorer.picture.value
    assert explorer._repr_mimebundle_()["image/png"] != first["image/png"]


def test_pictures_are_chosen_by_the_control_and_drawn_as_they_are():
    colours = {1: ("red", "blue"), 2.5: ("green", "black"), 8: ("white", "pink")}
    pictures = {
        value: [Image.new("RGB", (5, 7), colour) for colour in pair]
        for value, pair in colours.items()
    }
    explorer = explore_pictures(pictures, "guidance scale", ["one", "other"])
    assert explorer.controls["guidance scale"].options == (1, 2.5, 8)
    for value in (8, 1, 2.5):
        explorer.controls["guidance scale"].value = value
        file = io.BytesIO()
        plot_pictures(
            pictures[value], ["one", "other"], suptitle=f"guidance scale {value}"
        ).savefig(file)
        np.testing.assert_array_equal(pixels(explorer.picture.value), pixels(file.getvalue()))
    with pytest.raises(ValueError, match="2 images and 1 titles"):
        explore_pictures(pictures, "guidance scale", ["one"])


# --------------------------------------------------------------------------------------------------
# What every explorer does


class Recorder:
    """Explorers draw through it, so that each figure can be looked at."""

    def __init__(self, explorer):
        self.explorer, self.draw, self.figures = explorer, explorer.draw, []
        explorer.draw = self

    def __call__(self, **setting):
        self.figures.append(self.draw(**setting))
        return self.figures[-1]

    def move(self, **setting):
        """Sets controls, and gives the figure that is shown then."""
        for name, value in setting.items():
            self.explorer.controls[name].value = value
        assert not self.explorer.problem.value and self.explorer.picture.value
        return self.figures[-1]


def test_a_figure_stays_where_it_is_until_a_label_needs_more_room():
    @figure_function
    def draw(length):
        figure, axis = plt.subplots(figsize=(3, 2), layout="constrained")
        axis.set_yticks([0.5], ["w" * length])
        figure.suptitle(f"{length} letters")
        return figure

    explorer = Explorer(draw, {"length": slider("length", [5, 3, 4, 15, 14])})
    recorder, left = Recorder(explorer), {}
    for length in (3, 4, 15, 14, 5):
        figure = recorder.move(length=length)
        left[length] = figure.axes[0].get_window_extent().x0
        edges = pixels(explorer.picture.value)
        assert all(
            (edge == 255).all() for edge in (edges[0], edges[-1], edges[:, 0], edges[:, -1])
        ), "nothing is cut"
    assert left[3] == pytest.approx(left[5]) and left[4] == pytest.approx(left[5])
    assert left[15] > left[5] + 20 and left[14] == pytest.approx(left[15])


def test_what_is_refused_leaves_the_last_picture():
    def draw(number):
        if number == 2:
            raise Refused("<2> is no good")
        return plot_pictures([Image.new("RGB", (5, 7), (number, 0, 0))])

    explorer = Explorer(draw, {"number": slider("number", [1, 2, 3])})
    first = explorer.picture.value
    explorer.controls["number"].value = 2
    assert explorer.picture.value == first and explorer.problem.value == "&lt;2&gt; is no good"
    explorer.controls["number"].value = 3
    assert explorer.picture.value != first and not explorer.problem.value


def test_garbage_is_put_off_and_then_collected_again():
    with pytest.raises(ZeroDivisionError), garbage_kept():
        assert not gc.isenabled()
        raise ZeroDivisionError
    assert gc.isenabled()
    gc.disable()
    with garbage_kept():
        pass
    assert not gc.isenabled()  # as it was found
    gc.enable()


def test_switches_and_their_value_follow_each_other():
    switches, seen = Switches("take away", ["0", "1", "2–3"]), []
    switches.observe(lambda change: seen.append(change["new"]), names="value")
    assert switches.value == () and [button.description for button in switches.buttons] == [
        "0",
        "1",
        "2–3",
    ]
    switches.buttons[2].value = True
    switches.buttons[0].value = True
    assert switches.value == (0, 2)
    switches.buttons[2].value = False
    switches.value = (1, 2)
    assert [button.value for button in switches.buttons] == [
        False,
        True,
        True,
    ] and switches.value == (1, 2)
    assert seen == [(2,), (0, 2), (0,), (1, 2)]  # none between: each would be painted


def painters():
    """The toy (16 queries) and the random official checkpoint (8, eta 1), with few steps."""
    tiny = Path(__file__).parent / "fixtures" / "tiny-a"
    official = minidream.load(
        tiny / "checkpoint", device="cpu", component_configs=tiny / "component_configs"
    )
    models = {
        "toy": untrained_toy(),
        "official": official,
    }
    for model in models.values():
        model.decoder.config = replace(model.decoder.config, num_inference_steps=3)
    return models


@pytest.fixture(scope="module")
def models():
    return painters()


@pytest.fixture(params=["toy", "official"])
def model(request, models):
    return models[request.param]


PROMPT = "a red circle"


def test_a_move_draws_one_figure_and_does_not_run_the_model(models):
    """What makes a move fast: what it shows was painted before, and is drawn once."""
    story = [
        "<s>",
        *"a small red circle on a white background .".split(),
        *read(0, 8),
        *"the circle turns green .".split(),
    ]
    seen = trace(story, queries=16, layers=6, heads=6)
    hops = torch.zeros(len(seen.inputs), 8, 8)
    hops[:, 0, 3] = 1 / len(seen.inputs)  # the first cell shown: another row than those moved to
    toy_model, official = models["toy"], models["official"]
    settings = {
        explore_trace(seen): [{"layer": 1}, {"layer": 2}],
        explore_two_hops(image(), hops, seen.inputs): [{"row": 2}, {"row": 5}],
        explore_denoising(toy_model, PROMPT): [{"query": 1}, {"query": 2}],
        explore_dreams(toy_model, [PROMPT], (0, 1, 2), (1, 3)): [{"seed": 1}, {"seed": 2}],
        explore_ablations(official, PROMPT): [{"off": (1,)}, {"off": (2, 3)}],
    }
    passes = []
    hooks = [
        module.register_forward_hook(lambda *_: passes.append(1))
        for model in models.values()
        for module in (model.llm, model.decoder.unet, model.decoder.vae.decoder)
    ]
    for explorer, moves in settings.items():
        recorder = Recorder(explorer)
        for move in moves:
            recorder.move(
                **move
            )  # the first figure of a size may be drawn twice, to place its parts
        del recorder.figures[:]
        for move in moves:
            recorder.move(**move)
        assert len(recorder.figures) == len(moves)
    for hook in hooks:
        hook.remove()
    assert not passes


# --------------------------------------------------------------------------------------------------
# Each of them


def test_two_hops_start_where_there_is_most_to_see_and_draw_every_setting():
    inputs = ["<s>", "red", (0, 0, 0), (0, 0, 1), "red", 0]
    hops = torch.full((6, 2, 3), 0.1)
    hops[4, 1, 0] = 0.4
    explorer = explore_two_hops(image(), hops, inputs)
    assert {name: control.value for name, control in explorer.controls.items()} == {
        "word": "red (2)",
        "row": 1,
        "column": 0,
    }
    recorder = Recorder(explorer)
    offered = [list(control.options) for control in explorer.controls.values()]
    assert offered == [["red", "image 0", "red (2)"], [0, 1], [0, 1, 2]]
    for word, row, column in itertools.product(*offered):
        if (word, row, column) == ("red", 0, 0):  # else nothing moves first
            recorder.move(row=0)
        shown, wanted = (
            recorder.move(word=word, row=row, column=column),
            plot_hop(image(), hops, inputs, word, (row, column)),
        )
        np.testing.assert_array_equal(meshes(shown)[0], meshes(wanted)[0])
        assert bars(shown) == bars(wanted) and shown.get_suptitle() == wanted.get_suptitle()
    with pytest.raises(ValueError, match="6 maps were given for 5 inputs"):
        explore_two_hops(image(), hops, inputs[:-1])


@pytest.mark.parametrize("mean", [False, True])
def test_ablated_pictures_are_those_of_the_probe(model, mean):
    means = (
        torch.randn(model.dream_queries.shape[1:], generator=torch.Generator().manual_seed(1))
        if mean
        else None
    )
    sets = [(), (2,), (1, 5), (0, 3, 7)]
    ablations = Ablations(model, PROMPT, seed=4, means=means)
    painted = model.paint(ablations.states(sets), [4] * len(sets), output_type="pt")
    for off, picture in zip(sets, painted):
        with probe.ablate(model, off, means if mean else 0) if off else nullcontext():
            wanted = model.dream(PROMPT, seed=4, output_type="pt")
        torch.testing.assert_close(picture, wanted, atol=1e-4, rtol=0)
        shown = np.asarray(ablations.picture(off), dtype=int)
        assert (
            np.abs(
                shown
                - np.asarray(
                    to_pil(rearrange(wanted, "rgb height width -> 1 rgb height width"))[0],
                    dtype=int,
                )
            ).max()
            <= 1
        )
    assert ablations.change((2,)).mean() == pytest.approx(
        (painted[1] - painted[0]).abs().mean().item(), abs=2 / 255
    )
    with pytest.raises(ValueError, match=r"means of shape \(3, 5\) were given; it takes"):
        Ablations(model, PROMPT, means=torch.zeros(3, 5))


def test_ablations_paint_singles_and_pairs_beforehand_and_others_once(models, monkeypatch):
    model, painted = models["official"], []
    paint = model.paint
    monkeypatch.setattr(
        model, "paint", lambda states, seed: painted.append(len(states)) or paint(states, seed)
    )
    explorer = explore_ablations(model, PROMPT)
    count = model.queries
    assert sum(painted) == 1 + count + count * (count - 1) // 2 and max(painted) == 8
    recorder, ablations = Recorder(explorer), Ablations(model, PROMPT)
    for off in [(number,) for number in range(count)] + [(2, 5)]:
        shown = recorder.move(off=off)
        # Painted in another batch: a number may be rounded to the next of 255.
        np.testing.assert_allclose(
            shown.axes[1].images[0].get_array().astype(int),
            np.asarray(ablations.picture(off)).astype(int),
            atol=1,
        )
        assert f" {', '.join(map(str, off))}:" in texts(shown)
    del painted[:]
    for off in ((1, 2, 6), (), (1, 2, 6), tuple(range(count))):
        recorder.move(off=off)
    assert painted == [1, 1]


@pytest.mark.parametrize(
    "queries, sizes", [(16, [1] * 16), (17, [2] * 8 + [1]), (40, [3] * 13 + [1]), (64, [4] * 16)]
)
def test_many_queries_are_switched_in_groups(models, queries, sizes):
    model = copy.copy(models["toy"])
    model._parameters = dict(model._parameters)
    model.dream_queries = torch.nn.Parameter(
        torch.randn(1, queries, 192, generator=torch.Generator().manual_seed(0)),
        requires_grad=False,
    )
    ablations = Ablations(model, PROMPT)
    assert [len(group) for group in ablations.groups] == sizes and sum(
        map(list, ablations.groups), []
    ) == list(range(queries))
    assert ablations.names[0] == (
        "0" if sizes[0] == 1 else f"0–{sizes[0] - 1}"
    ) and ablations.names[-1].endswith(str(queries - 1))
    (states,) = ablations.states([(1, len(sizes) - 1)])
    gone = {*ablations.groups[1], *ablations.groups[-1]}
    assert {query for query in range(queries) if not states[query].any()} == gone
    if queries == 64:
        recorder = Recorder(explore_ablations(model, PROMPT))
        assert "queries 4–7:" in texts(recorder.move(off=(1,)))
        assert len(ablations.singles()) == 16


@pytest.mark.parametrize("guidance_scale", [1.0, 2.5])
def test_denoising_records_what_the_scheduler_did(model, guidance_scale):
    plain = model.dream(PROMPT, seed=3, output_type="latent", guidance_scale=guidance_scale)
    with watch_denoising(model) as seen:
        watched = model.dream(
            [PROMPT, "a star"], seed=3, output_type="latent", guidance_scale=guidance_scale
        )
    assert not model.decoder.denoising_step._forward_hooks
    torch.testing.assert_close(watched[0], plain, atol=1e-4, rtol=0)
    torch.testing.assert_close(seen.latents[-1], torch.stack(watched))
    assert (
        len(seen.latents) == 4
        and len(seen.guesses) == len(seen.timesteps) == 3
        and sorted(seen.timesteps, reverse=True) == seen.timesteps
    )
    start, _ = picture_noise([3, 4], model.decoder.latent_shape)
    torch.testing.assert_close(seen.latents[0], start)
    # A guess is the noisy latents without the noise that the U-Net predicts (DDIM, equation 9).
    projector, states = model.decoder.projector, model.encode([PROMPT, "a star"])
    for timestep, latents, guess in zip(seen.timesteps, seen.latents, seen.guesses):
        times = torch.tensor([timestep] * 2)
        with torch.no_grad():
            noise = model.decoder.predict(latents, times, projector(states))
            null = model.decoder.predict(
                latents, times, projector(model.null_states()).expand(2, -1, -1)
            )
        noise = noise if guidance_scale == 1 else null + guidance_scale * (noise - null)
        kept = model.decoder.scheduler.alphas_cumprod[timestep]
        torch.testing.assert_close(
            guess, (latents - (1 - kept).sqrt() * noise) / kept.sqrt(), atol=1e-3, rtol=1e-3
        )
    for pictures, latents in zip(
        seen.pictures(model, picture=1), (seen.latents[:-1], seen.guesses), strict=True
    ):
        for picture, latent in zip(pictures, latents, strict=True):
            (wanted,) = to_pil(model.decoder.decode(latent[[1]]).detach())
            assert np.abs(np.asarray(picture, dtype=int) - np.asarray(wanted, dtype=int)).max() <= 1


@torch.no_grad()
def test_the_last_guess_is_the_picture_where_the_schedule_ends_without_noise(models):
    model = models[
        "official"
    ]  # its scheduler's last step goes all the way; the toy's leaves out the very last
    with watch_denoising(model) as seen:
        painted = model.dream(PROMPT, seed=3, output_type="pt")
    torch.testing.assert_close(
        model.decoder.decode(seen.guesses[-1])[0], painted, atol=1e-3, rtol=0
    )


def test_denoising_leaves_no_hook_behind_whatever_happens(models):
    hooks = models["toy"].decoder.denoising_step._forward_hooks
    with pytest.raises(ZeroDivisionError), watch_denoising(models["toy"]):
        raise ZeroDivisionError
    assert not hooks
    with watch_denoising(models["toy"]) as outer:
        with watch_denoising(models["toy"]) as inner:
            models["toy"].dream(PROMPT)
        assert len(hooks) == 1  # somebody else's is still there
    assert len(inner.guesses) == len(outer.guesses) == 3 and not hooks
    with (
        pytest.raises(RuntimeError, match="no picture was painted"),
        watch_denoising(models["toy"]),
    ):
        pass
    with (
        pytest.raises(RuntimeError, match="a second one was begun"),
        watch_denoising(models["toy"]),
    ):
        models["toy"].dream(PROMPT)
        models["toy"].dream(PROMPT)
    assert not hooks


def test_the_scrubber_shows_every_step_and_query(model):
    with watch_denoising(model) as seen, probe.watch_image(model, steps=True) as looks:
        model.dream(PROMPT, seed=1)
    noisy, guesses = seen.pictures(model)
    explorer = explore_denoising(model, PROMPT, seed=1)
    steps, queries = (list(control.options) for control in explorer.controls.values())
    assert (
        steps == [0, 1, 2]
        and queries == list(range(model.queries))
        and not model.decoder.denoising_step._forward_hooks
    )
    recorder, scales = Recorder(explorer), set()
    recorder.move(step=1)
    for step, query in itertools.product(steps, queries[::3]):
        figure = recorder.move(step=step, query=query)
        for axis, picture in zip(figure.axes, (noisy[step], guesses[step])):
            assert (
                np.abs(
                    axis.images[0].get_array().astype(int) - np.asarray(picture, dtype=int)
                ).max()
                <= 1
            )
        np.testing.assert_allclose(meshes(figure)[0], looks.mean(step=step)[query], atol=1e-5)
        scales.add(figure.axes[2].collections[0].get_clim())
        assert f"Step {step}, timestep {seen.timesteps[step]}" in texts(figure)
    assert len(scales) == 1


def test_dreams_are_those_of_the_model(model):
    painted = paint_dreams(model, PROMPT, seeds=(5, 2), guidance=(1, 2.5))
    assert list(painted) == [1, 2.5] and [len(pictures) for pictures in painted.values()] == [2, 2]
    for scale, pictures in painted.items():
        for seed, picture in zip((5, 2), pictures):
            wanted = model.dream(PROMPT, seed=seed, guidance_scale=scale)
            assert np.abs(np.asarray(picture, dtype=int) - np.asarray(wanted, dtype=int)).max() <= 1


def test_the_playground_paints_a_prompt_once_and_shows_what_is_wrong_with_another(
    models, monkeypatch
):
    model, painted = models["toy"], []
    paint = model.paint
    monkeypatch.setattr(
        model,
        "paint",
        lambda states, seed, guidance_scale: (
            painted.append((len(states), guidance_scale))
            or paint(states, seed, guidance_scale=guidance_scale)
        ),
    )
    explorer = explore_dreams(model, [PROMPT, "a blue star"], seeds=(0, 1, 2), guidance=(1, 3))
    assert painted == [(3, 1), (3, 3)] and explorer.controls["prompt"].options == (
        PROMPT,
        "a blue star",
    )
    recorder = Recorder(explorer)
    wanted = paint_dreams(model, PROMPT, (0, 1, 2), (1, 3))
    del painted[:]
    recorder.move(seed=1)
    for seed, scale in itertools.product((0, 1, 2), (1, 3)):
        figure = recorder.move(seed=seed, guidance=scale)
        np.testing.assert_array_equal(
            figure.axes[0].images[0].get_array(), np.asarray(wanted[scale][seed])
        )
        assert f"seed {seed}, guidance scale {scale}" in texts(figure) and PROMPT in texts(figure)
    assert not painted
    last = explorer.picture.value
    explorer.controls["prompt"].value = "a red circel"
    assert (
        "does not know the word &#x27;circel&#x27;" in explorer.problem.value
        and "circle" in explorer.problem.value
    )
    assert explorer.picture.value == last and not painted
    assert "a blue star" in texts(recorder.move(prompt="a blue star")) and len(painted) == 2
    with pytest.raises(ValueError, match="does not know the word 'circel'"):
        explore_dreams(model, [PROMPT, "a red circel"])


def test_dreams_make_a_film_of_seeds_and_guidance(models):
    painted = paint_dreams(models["toy"], PROMPT, seeds=(0, 4), guidance=(1, 2, 3))
    film = plot_film(
        {f"scale {scale}": pictures for scale, pictures in painted.items()},
        ["seed 0", "seed 4"],
        "guidance sharpens",
    )
    assert sum(bool(axis.images) for axis in film.axes) == 6


def test_the_page_of_two_hops_has_what_each_prompt_gives(models):
    model = models["toy"]
    prompts = [PROMPT, minidream.Document([Image.new("RGB", (32, 32), "red"), "the same"])]
    page = two_hop_page(model, prompts, seed=3)
    found = [json.loads(html.unescape(data)) for data in re.findall('data-hops="([^"]*)"', page)]
    assert re.findall("<option>(.*?)</option>", page) == [PROMPT, "[image] the same"]
    for index, (prompt, numbers) in enumerate(zip(prompts, found, strict=True)):
        with probe.watch_image(model) as maps:
            model.dream(prompt, seed=3 + index)
        trace_of_prompt = probe.dream_attention(model, prompt)
        hops = probe.two_hop(trace_of_prompt, maps)
        shares = [
            hops[group].sum(dim=0).flatten() for group in groups(trace_of_prompt.inputs).values()
        ]
        np.testing.assert_allclose(numbers["maps"], 1000 * torch.stack(shares), atol=0.2)
        np.testing.assert_allclose(numbers["looks"], 1000 * maps.mean().flatten(1), atol=0.2)
        np.testing.assert_allclose(  # the first input, <s>, is a group of its own
            np.array(numbers["reads"])[:, 0], 1000 * trace_of_prompt.mean()[:, 0], atol=0.2
        )
