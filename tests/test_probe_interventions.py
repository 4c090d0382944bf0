"""Interventions change the conditional pass alone, and leave nothing behind; stream and lens."""

import pytest
import torch
from models_shared import tiny_official, untrained_toy
from torch.testing import assert_close

from minidream import probe

PROMPTS = [
    "a red circle",
    "a large blue square on a black background",
]  # of different lengths: the first is padded


@pytest.fixture(scope="module", params=["toy", "official"])
def model(request):
    if request.param == "toy":
        return untrained_toy()
    return tiny_official()


def last(model) -> int:
    return len(model.llm.layers) - 1


def test_the_stream_ends_in_what_encode_gives(model):
    stream = probe.query_stream(model, PROMPTS)
    assert stream.shape == (len(model.llm.layers), 2, model.queries, model.dream_queries.shape[-1])
    assert_close(model.llm.norm(stream[-1]), model.encode(PROMPTS))
    for row, prompt in enumerate(PROMPTS):  # padding is counted nowhere
        assert_close(probe.query_stream(model, prompt)[:, 0], stream[:, row], atol=1e-4, rtol=1e-4)


def test_the_last_picture_of_the_lens_is_the_dream(model):
    options = dict(num_inference_steps=2, output_type="pt")
    pictures = probe.lens(model, PROMPTS[0], seed=3, **options)
    assert len(pictures) == len(model.llm.layers)
    assert_close(pictures[-1], model.dream(PROMPTS[0], seed=3, **options), atol=1e-4, rtol=0)
    assert (pictures[0] - pictures[-1]).abs().max() > 1e-3


def test_ablation_puts_zeros_or_means_and_touches_no_other_query(model):
    before, means = model.encode(PROMPTS), torch.randn(model.queries, model.dream_queries.shape[-1])
    for values in (0, means):
        with probe.ablate(model, [2, 0], values):
            after = model.encode(PROMPTS)
        expected = before.clone()
        expected[:, [0, 2]] = means[[0, 2]] if values is means else 0
        assert_close(after, expected)
    assert_close(model.encode(PROMPTS), before)  # nothing stays


def test_a_change_within_the_language_model_reaches_only_later_queries(model):
    before = model.encode(PROMPTS)
    with probe.ablate(model, [1], layer=0):
        after = model.encode(PROMPTS)
    changed = (after - before).abs().amax(dim=(0, 2)) > 1e-6
    assert changed.tolist() == [False] + [True] * (
        model.queries - 1
    )  # causal: query 0 cannot see query 1


def test_patching_all_queries_after_the_last_layer_gives_the_other_prompts_states(model):
    stream, states = probe.query_stream(model, PROMPTS), model.encode(PROMPTS)
    everything = list(range(model.queries))
    with probe.patch(model, everything, stream[-1, 1], layer=last(model)):
        assert_close(model.encode(PROMPTS[0]), states[[1]], atol=1e-4, rtol=1e-4)
    with probe.patch(model, everything, stream[0, 1], layer=0):
        patched = model.encode(PROMPTS[0])
    assert (
        patched - states[[1]]
    ).abs().max() > 1e-4  # the layers above still read the words of the first prompt
    assert (patched - states[[0]]).abs().max() > 1e-4


def test_each_prompt_may_get_states_of_its_own(model):
    given = torch.randn(2, model.queries, model.dream_queries.shape[-1])
    with probe.patch(model, [1], given):
        after = model.encode(PROMPTS)
    assert_close(after[:, 1], given[:, 1])
    with (
        pytest.raises(ValueError, match="states of shape .*; queries takes .* of 1 before"),
        probe.patch(model, [1], given),
    ):
        model.encode(PROMPTS[0])


def test_swapping_twice_is_nothing_and_once_exchanges(model):
    before = model.encode(PROMPTS)
    with probe.swap(model, [2]):
        after = model.encode(PROMPTS)
    assert_close(after[:, 2], before[:, 2].flip(0))
    kept = [query for query in range(model.queries) if query != 2]
    assert_close(after[:, kept], before[:, kept])
    with probe.swap(model, [2]), probe.swap(model, [2]):
        assert_close(model.encode(PROMPTS), before)
    with pytest.raises(ValueError, match="in pairs, and there are 1"), probe.swap(model, [2]):
        model.encode(PROMPTS[0])


def test_steering_adds(model):
    before = model.encode(PROMPTS)
    direction = torch.zeros(model.queries, before.shape[-1])
    direction[1] = 1
    with probe.steer(model, direction, -0.5):
        assert_close(
            model.encode(PROMPTS) - before, -0.5 * direction.expand_as(before), atol=1e-4, rtol=0
        )
    with probe.steer(model, direction, 0.0, layer=0):
        assert_close(model.encode(PROMPTS), before)


@pytest.mark.parametrize("layer", [None, 0])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_the_null_condition_is_never_touched(model, layer, scale):
    """The picture equals one painted from changed states and the plain null condition."""
    options = dict(seed=5, guidance_scale=scale, num_inference_steps=2, output_type="latent")
    null = model.null_states()
    with probe.ablate(model, [0, 1], layer=layer):
        assert_close(model.null_states(), null)
        states = model.encode(PROMPTS)
        watched = torch.stack(model.dream(PROMPTS, **options))
    assert_close(watched, torch.stack(model.paint(states, **options)))
    assert (watched - torch.stack(model.dream(PROMPTS, **options))).abs().max() > 1e-4


def test_foreign_hooks_stay_and_an_exception_restores_everything(model):
    calls = []
    foreign = model.llm.layers[0].register_forward_hook(lambda *_: calls.append(1))
    before = model.encode(PROMPTS)
    with pytest.raises(ZeroDivisionError), probe.ablate(model, [0], 0, layer=0):
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="in pairs"), probe.swap(model, [0], layer=0):
        model.encode(PROMPTS[0])
    assert_close(model.encode(PROMPTS), before)
    assert "encode" not in vars(model) and [
        len(layer._forward_hooks) for layer in model.llm.layers
    ][:2] == [1, 0]
    assert len(calls) == 3
    foreign.remove()


def test_what_does_not_fit_is_refused_with_both_numbers(model):
    states, layers = model.encode(PROMPTS), len(model.llm.layers)
    with (
        pytest.raises(
            ValueError, match=rf"layer {layers} was asked for; the language model has {layers}"
        ),
        probe.ablate(model, [0], layer=layers),
    ):
        pass
    for queries in ([], [0, 0], [model.queries]):
        with (
            pytest.raises(ValueError, match=rf"some of 0 to {model.queries - 1}, each once"),
            probe.ablate(model, queries),
        ):
            pass
    with (
        pytest.raises(ValueError, match="states of shape .* were given; queries takes"),
        probe.patch(model, [0], states[..., 1:]),
    ):
        pass
    with pytest.raises(ValueError, match="of shape"), probe.steer(model, states[0, 0, 1:]):
        pass
    for strength in (1e38, -(10**400)):
        with (
            pytest.raises(ValueError, match="strength is between -65504 and 65504, and not -?[12]"),
            probe.steer(model, states[0], strength),
        ):
            pass
    with pytest.raises(RuntimeError, match="no prompt was encoded"), probe.ablate(model, [0]):
        pass
    with pytest.raises(ValueError, match=rf"states have the shape \(batch, {model.queries}, "):
        model.paint(states[:, 1:])


def test_painting_is_the_second_half_of_dreaming(model):
    options = dict(seed=2, num_inference_steps=2, negative_prompt="a blue square", output_type="pt")
    assert_close(
        torch.stack(model.paint(model.encode(PROMPTS), **options)),
        torch.stack(model.dream(PROMPTS, **options)),
        atol=1e-4,
        rtol=0,
    )
    options.pop("seed")
    twice = model.paint(model.encode(PROMPTS[:1] * 2), seed=[4, 4], **options)
    assert_close(twice[0], twice[1], atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="1 seeds were given for 2 pictures"):
        model.paint(model.encode(PROMPTS), seed=[4])
