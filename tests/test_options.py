"""Options of painting and writing: every form of one value is taken, all else refused at once."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from models_shared import tiny_official, untrained_toy

from minidream import Document
from minidream.diffusion import own_scheduler
from minidream.generate import choose
from minidream.images import as_seeds

SCENE = "a red circle"
NAN, INFINITY = float("nan"), float("inf")
LATENTS = (1, 8, 8, 8)  # of one picture of the toy


@pytest.fixture(scope="module")
def model():
    return untrained_toy()


@pytest.fixture
def idle(model, monkeypatch):
    """The model, failing the test if any part of it starts to work."""
    for part in (model.llm, model.vision, model.decoder.unet, model.decoder.vae):
        monkeypatch.setattr(part, "forward", lambda *_, **__: pytest.fail("work had begun"))
    return model


def latents_of(model, prompts=SCENE, **options):
    painted = model.dream(prompts, output_type="latent", **dict(num_inference_steps=2) | options)
    return painted if isinstance(painted, torch.Tensor) else torch.stack(painted)


# --------------------------------------------------------------------------------------------------
# Numbers of steps


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("offset", [0, 1, 5])
def test_every_number_of_steps_has_its_timesteps_within_those_of_training_or_is_refused(
    spacing, offset
):
    """All of 100: "trailing" once ended at timestep -1, "leading" with an offset began at 100."""
    scheduler = DDIMScheduler(100, timestep_spacing=spacing, steps_offset=offset)
    refused = []
    for steps in range(1, 101):
        try:
            own = own_scheduler(scheduler, steps)
        except ValueError as error:
            assert str(steps) in str(error)
            refused.append(steps)
            continue
        timesteps = own.timesteps.tolist()
        assert len(timesteps) == steps == own.num_inference_steps
        assert timesteps == sorted(set(timesteps), reverse=True)
        assert 0 <= timesteps[-1] and timesteps[0] < 100
    # "leading": the first is (steps - 1) * (100 // steps) + offset.
    beyond = [steps for steps in range(1, 101) if (steps - 1) * (100 // steps) + offset >= 100]
    assert refused == (beyond if spacing == "leading" else [])


def scheduler_of_100(model):
    return DDIMScheduler.from_config(model.decoder.scheduler.config, num_train_timesteps=100)


def test_a_step_count_that_rounds_to_one_timestep_too_many_paints_like_its_neighbours(
    model, monkeypatch
):
    """With 100 timesteps, 29 steps; with 1000, 61 and 61 others."""
    monkeypatch.setattr(model.decoder, "scheduler", scheduler_of_100(model))
    painted = latents_of(model, num_inference_steps=29)
    for neighbour in (28, 30):
        far = (painted - latents_of(model, num_inference_steps=neighbour)).abs().max()
        assert far < 0.2 * painted.abs().max()


def test_more_steps_than_there_are_timesteps_are_refused_with_the_largest_that_work(monkeypatch):
    model = tiny_official()  # its spacing is "leading", with an offset of 1
    for steps in (1000, 1001):
        with pytest.raises(ValueError, match=f"steps is between 1 and 999, and not {steps}"):
            model.dream(SCENE, num_inference_steps=steps)
    model.decoder.scheduler = scheduler_of_100(model)
    assert latents_of(model, num_inference_steps=99).isfinite().all()
    monkeypatch.setattr(model.decoder.unet, "forward", lambda *_, **__: pytest.fail("work begun"))
    model.decoder.config = replace(model.decoder.config, num_inference_steps=100)
    with pytest.raises(ValueError, match="between 1 and 99, and not 100"):
        model.write(SCENE)


# --------------------------------------------------------------------------------------------------
# Numbers in every form


@pytest.mark.parametrize(
    "form", [float, np.int64, np.float32, np.array, torch.tensor, "array of 1"]
)
def test_numbers_are_taken_in_every_form(model, form):
    form = (lambda value: np.array([value])) if form == "array of 1" else form
    options = dict(seed=3, num_inference_steps=2, guidance_scale=2)
    wanted = latents_of(model, **options)
    given = {name: form(value) for name, value in options.items()}
    assert torch.equal(latents_of(model, **given), wanted)
    states = model.encode(SCENE)
    assert torch.equal(model.paint(states, output_type="latent", **given)[0], wanted)
    options = dict(max_new_tokens=4, max_images=1, seed=5, temperature=1, top_p=1)
    given = {name: form(value) for name, value in options.items()}
    assert model.write(SCENE, **given).items == model.write(SCENE, **options).items
    assert model.chat("what", max_new_tokens=form(3)) == model.chat("what", max_new_tokens=3)


NOT_WHOLE = [2.5, NAN, INFINITY, "2", True, np.bool_(True), [2, 3, 4], torch.Generator(), 2j]


@pytest.mark.parametrize(
    "value",
    [*NOT_WHOLE, None, 2**64, -(2**63) - 1, [1], {1, 2}],
    ids=lambda value: repr(value).split(" at 0x")[0],
)
def test_other_seeds_are_refused_before_work(idle, value):
    calls = [
        lambda: idle.dream([SCENE, SCENE], seed=value),
        lambda: idle.paint(torch.zeros(2, 16, 192), value),
        lambda: idle.write(SCENE, seed=value),
    ]
    for call in calls:
        with pytest.raises((TypeError, ValueError), match="seed"):
            call()


def test_the_seeds_of_later_pictures_are_checked_too(idle):
    with pytest.raises(ValueError, match="seed is between .* and 18446744073709551614, and not"):
        idle.dream([SCENE, SCENE], seed=2**64 - 1)
    with pytest.raises(ValueError, match="seed is between .* and 18446744073709551612, and not"):
        idle.write(SCENE, seed=2**64 - 1)


@pytest.mark.parametrize("value", [*NOT_WHOLE, 0, -1, 1001])
def test_other_numbers_of_steps_are_refused_before_work(idle, value):
    with pytest.raises((TypeError, ValueError), match="num_inference_steps is "):
        idle.dream(SCENE, num_inference_steps=value)
    with pytest.raises((TypeError, ValueError), match="num_inference_steps is "):
        idle.write(SCENE, num_inference_steps=value)


NO_GUIDANCE = [NAN, INFINITY, -INFINITY, -1, "3", True, [3], torch.Generator()]
NO_GUIDANCE += [10_001, 1e38, 1e300, 10**400, Fraction(10**400), torch.tensor(3, device="meta")]


@pytest.mark.parametrize("value", NO_GUIDANCE, ids=lambda value: repr(value)[:20])
def test_other_guidance_is_refused_before_work(idle, value):
    with pytest.raises((TypeError, ValueError), match="guidance_scale is "):
        idle.dream(SCENE, guidance_scale=value)


@pytest.mark.parametrize(
    "name, values",
    [
        ("max_new_tokens", [*NOT_WHOLE, None, 0, -1]),
        ("max_images", [*NOT_WHOLE, None, -1]),
        ("temperature", [NAN, INFINITY, -0.5, "1", True, None, 10_001, 1e300, 10**400]),
        ("top_p", [NAN, INFINITY, 0, 1.5, "1", True, None, 10**400, Fraction(10**400)]),
    ],
)
def test_other_numbers_are_refused_before_writing(idle, name, values):
    for value in values:
        with pytest.raises((TypeError, ValueError), match=name):
            idle.write(SCENE, **{name: value})
        if name == "max_new_tokens":
            with pytest.raises((TypeError, ValueError), match=name):
                idle.chat("what", max_new_tokens=value)


def test_the_smallest_temperatures_take_the_likeliest_token():
    logits, generator = torch.tensor([-8.0, 3.0, 3.0000005]), torch.Generator().manual_seed(0)
    for temperature in (0, 5e-324, 1e-45, 1e-31, 1e-29):
        assert choose(logits, temperature, 0.9, generator) == 2


# --------------------------------------------------------------------------------------------------
# Seeds of several pictures


@pytest.mark.parametrize(
    "seeds",
    [[7, 3], (7, 3), range(7, -1, -4), np.array([7, 3]), torch.tensor([7.0, 3.0])],
    ids=lambda value: repr(value).split(" at 0x")[0],
)
def test_each_picture_may_have_a_seed_of_its_own(model, seeds):
    prompts = [SCENE, "a blue square"]
    alone = [latents_of(model, prompt, seed=seed) for prompt, seed in zip(prompts, (7, 3))]
    together = latents_of(model, prompts, seed=seeds)
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-3, rtol=0)
    painted = torch.stack(
        model.paint(model.encode(prompts), seeds, num_inference_steps=2, output_type="latent")
    )
    assert torch.equal(painted, together)


def test_seeds_by_hand():
    assert as_seeds(5, 3) == as_seeds(torch.tensor([5]), 3) == [5, 6, 7]
    assert as_seeds(-2, 3) == [-2, -1, 0], "torch takes negative seeds"
    assert as_seeds([2**64 - 1, 0.0], 2) == [2**64 - 1, 0]
    for seed, message in [
        ([1], "1 seeds were given for 3 pictures"),
        (np.arange(4), "4 seeds were given for 3 pictures"),
        (np.zeros(0), "0 seeds were given for 3 pictures"),
        ([1, 2, None], "a seed is a number, not a NoneType"),
        (torch.zeros(3, 1), "a seed is a number, not a list"),
        (torch.zeros(3, device="meta"), "seed is .*not a tensor that is on the meta device"),
        (torch.zeros(3).to_sparse(), "seed is .*not a tensor that is torch.sparse_coo"),
        ("123", "seed is a number, not a str"),
        ({1, 2, 3}, "seed is a number, not a set"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            as_seeds(seed, 3)


@pytest.mark.parametrize("number", range(6))
def test_a_list_of_prompts_equals_single_calls_whatever_the_options(model, number):
    """A property, for random options."""
    rng = np.random.default_rng(number)
    words = ["a red circle", "a star", "", "a small blue square on a black background", "a ring"]
    prompts = [words[index] for index in rng.integers(len(words), size=rng.integers(1, 4))]
    seeds = rng.integers(-5, 2**40, size=len(prompts)).tolist()
    options = dict(
        num_inference_steps=int(rng.integers(1, 6)),
        guidance_scale=rng.choice([0.0, 1.0, 1.5, 3.0, 8.0]),
        negative_prompt=rng.choice([None, "a star"]),
    )
    model.decoder.config = replace(model.decoder.config, eta=float(rng.choice([0.0, 0.5, 1.0])))
    together = latents_of(model, prompts, seed=seeds, **options)
    alone = [
        latents_of(model, prompt, seed=seed, **options) for prompt, seed in zip(prompts, seeds)
    ]
    model.decoder.config = replace(model.decoder.config, eta=0.0)
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-3, rtol=1e-3)


# --------------------------------------------------------------------------------------------------
# Latents, states and negative prompts


def test_latents_are_taken_from_numpy_and_in_every_precision(model):
    noise = torch.randn(1, *model.decoder.latent_shape, generator=torch.Generator().manual_seed(0))
    wanted = latents_of(model, latents=noise)
    flipped, big_endian = noise.flip(-1).numpy()[..., ::-1], noise.numpy().astype(">f4")
    extended = noise.numpy().astype(np.longdouble)
    for given in (noise.double(), noise.numpy(), flipped, big_endian, extended):
        assert torch.equal(latents_of(model, latents=given), wanted)
    states = model.encode(SCENE)
    painted = model.paint(
        states.numpy(), latents=noise, num_inference_steps=2, output_type="latent"
    )
    assert torch.equal(painted[0], wanted)


@pytest.mark.parametrize(
    "value, message",
    [
        (torch.full(LATENTS, NAN), "hold nan or infinity"),
        (np.full(LATENTS, INFINITY), "hold nan or infinity"),
        (torch.zeros(LATENTS, dtype=torch.long), "not of type torch.int64"),
        (np.zeros(LATENTS, dtype=bool), "not of type bool"),
        (np.full(LATENTS, "3"), "not of type <U1"),
        (torch.zeros(LATENTS, dtype=torch.float8_e4m3fn), "not of type torch.float8_e4m3fn"),
        (torch.zeros(LATENTS, device="meta"), "not one that is on the meta device"),
        (torch.zeros(LATENTS).to_sparse(), "not one that is torch.sparse_coo"),
        (torch.full(LATENTS, 1e38), "lie between -65504 and 65504, and one is "),
        (np.full(LATENTS, -1e300), "lie between -65504 and 65504, and one is 1e.300"),
        ([[0.0]], "not of type list"),
        ("noise", "not of type str"),
    ],
)
def test_other_latents_and_states_are_refused_before_work(idle, value, message):
    with pytest.raises((TypeError, ValueError), match=f"latents .*{message}"):
        idle.dream(SCENE, latents=value)
    with pytest.raises((TypeError, ValueError), match=f"states .*{message}"):
        idle.paint(value)


def test_pictures_are_finite_at_the_ends_of_the_ranges(model):
    sign = torch.randn(
        1, *model.decoder.latent_shape, generator=torch.Generator().manual_seed(0)
    ).sign()
    for latents, guidance_scale in (
        (65504 * sign, 10_000),
        (65504 * sign.abs(), 1),
        (None, 10_000),
    ):
        image = model.dream(
            SCENE,
            num_inference_steps=2,
            latents=latents,
            guidance_scale=guidance_scale,
            output_type="pt",
        )
        assert image.isfinite().all()


def test_states_of_no_picture_are_refused(idle):
    with pytest.raises(ValueError, match=r"not \(0, 16, 192\)"):
        idle.paint(torch.zeros(0, 16, 192))


@pytest.mark.parametrize(
    "prompt", [0, False, [], 0.0, b""], ids=lambda value: repr(value).split(" at 0x")[0]
)
def test_a_negative_prompt_that_is_no_prompt_is_refused_although_it_is_falsy(idle, prompt):
    for call in (idle.dream, idle.write):
        with pytest.raises(TypeError, match="a prompt is a str or a minidream.Document"):
            call(SCENE, negative_prompt=prompt)
    with pytest.raises(TypeError, match="a prompt is a str or a minidream.Document"):
        idle.null_states(prompt)


def test_an_empty_negative_prompt_is_none(model):
    for prompt in ("", "  ", Document([])):
        assert torch.equal(latents_of(model, negative_prompt=prompt), latents_of(model))
