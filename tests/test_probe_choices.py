"""One rule for what a probe is asked for: queries, layers, heads, pictures, steps, positions.

A number may come from Python, numpy or torch; -1 is the last; several may come in any order, each
once. Everything else is refused with what was given and what there is.
"""

import numpy as np
import pytest
import torch
from models_shared import tiny_official
from PIL import Image
from torch.testing import assert_close

from minidream import Document, probe
from minidream.images import as_index
from minidream.plots import plot_trace
from minidream.probe.explorers import explore_dreams, paint_dreams
from minidream.probe.indices import as_indices

PROMPTS = ["a red circle", "a blue square"]


@pytest.fixture(scope="module")
def model():
    return tiny_official()


# Every way to name query 3 of 8, and every way to name queries 6, 1 and 2 of 8.
ONE = [3, np.int64(3), np.uint8(3), torch.tensor(3), torch.tensor([3]), np.array(3), 3.0, -5]
SEVERAL = [
    [6, 1, 2],
    (6, 1, 2),
    np.array([6, 1, 2]),
    torch.tensor([6, 1, 2], dtype=torch.int32),
    [np.int64(6), torch.tensor(1), -6],
    iter([6, 1, 2]),
    dict.fromkeys([6, 1, 2]),
]


@pytest.mark.parametrize("given", [*ONE, [3], (3,), range(3, 4), {3}])
def test_one_index_comes_in_many_forms(given):
    assert as_indices("query", given, 8) == [3]
    if not isinstance(given, (list, tuple, range, set)):
        assert as_index("query", given, 8, "there are 8") == 3


@pytest.mark.parametrize("given", SEVERAL)
def test_several_indices_come_in_many_forms(given):
    assert as_indices("query", given, 8) == [6, 1, 2]


@pytest.mark.parametrize(
    "given, error, message",
    [
        ([], ValueError, "no query was named; it takes some of 0 to 7, each once"),
        (range(0), ValueError, "no query was named"),
        (torch.tensor([]), ValueError, "no query was named"),
        ([0, 3, 0], ValueError, "query 0 was named 2 times; it takes some of 0 to 7, each once"),
        ([7, -1], ValueError, "query 7 was named 2 times"),
        (8, ValueError, "query 8 was asked for; it takes some of 0 to 7"),
        ([1, -9], ValueError, "query -9 was asked for; it takes some of 0 to 7"),
        (2.5, ValueError, "query is a whole number, not 2.5"),
        (float("nan"), ValueError, "query is a finite number"),
        (None, TypeError, "query is a number, not a NoneType"),
        ("3", TypeError, "query is a number, not a str"),
        (["3"], TypeError, "query is a number, not a str"),
        (True, TypeError, "query is a number, not a bool"),
        (torch.tensor([True, False]), TypeError, "query is a number, not a bool"),
        ([[1, 2]], TypeError, "query is a number, not a list"),
        (torch.tensor([[1], [2]]), TypeError, "query is a number, not a list"),
        (slice(3), TypeError, "query is a number, not a slice"),
    ],
)
def test_what_names_no_query_is_refused(model, given, error, message):
    with pytest.raises(error, match=message):
        as_indices("query", given, 8)
    states = torch.zeros(model.dream_queries.shape[1:])
    if given is None or isinstance(given, (list, torch.Tensor)) and np.ndim(given) == 2:
        return  # all queries, and some for each prompt
    for block in (
        lambda: probe.ablate(model, given),
        lambda: probe.patch(model, given, states, layer=0),
        lambda: probe.swap(model, given),
    ):
        with pytest.raises(error, match=message), block():
            raise AssertionError("the block must not run")


def interventions(model, queries, layer):
    states = torch.ones(model.dream_queries.shape[1:])
    return [
        probe.ablate(model, queries, layer=layer),
        probe.patch(model, queries, states, layer),
        probe.swap(model, queries, layer),
        probe.steer(model, states, np.float32(0.5), layer),
    ]


@pytest.mark.parametrize("queries, plain", [(6, [6]), (-2, [6]), (range(2, 8, 3), [2, 5])])
@pytest.mark.parametrize("layer, same", [(-1, 3), (np.int64(1), 1), (torch.tensor(2), 2)])
def test_interventions_take_every_form(model, queries, plain, layer, same):
    for given, usual in zip(
        interventions(model, queries, layer), interventions(model, plain, same)
    ):
        with usual:
            expected = model.encode(PROMPTS)
        with given:
            assert torch.equal(model.encode(PROMPTS), expected)
        assert not torch.equal(model.encode(PROMPTS), expected)


@pytest.mark.parametrize(
    "layer, error, message",
    [
        (4, ValueError, "layer 4 was asked for; the language model has 4, counted from 0"),
        (-5, ValueError, "layer -5 was asked for; the language model has 4"),
        ("1", TypeError, "layer is a number, not a str"),
        ([1], TypeError, "layer is a number, not a list"),
        (False, TypeError, "layer is a number, not a bool"),
        (0.5, ValueError, "layer is a whole number"),
    ],
)
def test_interventions_refuse_other_layers(model, layer, error, message):
    for block in interventions(model, [0], layer):
        with pytest.raises(error, match=message), block:
            raise AssertionError("the block must not run")


def test_what_interventions_put_in_place_are_numbers(model):
    size = tuple(model.dream_queries.shape[1:])
    for states in (np.zeros(size), torch.zeros(size, dtype=torch.float64)):
        with probe.ablate(model, 1, states):
            assert not model.encode(PROMPTS)[:, 1].any()
    for wrong, error in ((torch.full(size, torch.nan), ValueError), ([[0.0]], TypeError)):
        with pytest.raises(error), probe.patch(model, 0, wrong):
            raise AssertionError("the block must not run")
        with pytest.raises(error), probe.steer(model, wrong):
            raise AssertionError("the block must not run")
    for strength, error in ((float("inf"), ValueError), ("2", TypeError), (None, TypeError)):
        with pytest.raises(error, match="strength"):
            with probe.steer(model, torch.zeros(size), strength):
                raise AssertionError("the block must not run")


@pytest.fixture(scope="module")
def recorded(model):
    """(trace, maps, denoising) of one painting of two pictures."""
    with probe.watch_image(model, steps=True, heads=True) as maps:
        with probe.watch_denoising(model) as steps:
            model.dream(PROMPTS, num_inference_steps=3)
    picture = Image.new("RGB", (32, 32), "red")
    document = Document([picture, PROMPTS[0], picture, PROMPTS[1]], targets=[])
    return probe.dream_attention(model, document), maps, steps


def test_what_was_recorded_is_read_by_every_form_of_an_index(model, recorded):
    trace, maps, steps = recorded
    for two in (np.int64(2), torch.tensor(2), torch.tensor([2]), 2.0):
        assert torch.equal(trace.mean(layer=two, head=two), trace.mean(layer=2, head=2))
        assert torch.equal(maps.mean(step=two), maps.mean(step=2))
        ticks = [plot_trace(trace, query=query).axes[0].get_yticklabels() for query in (two, 2)]
        assert [str(label) for label in ticks[0]] == [str(label) for label in ticks[1]]
    last = len(trace.weights) - 1, trace.weights.shape[1] - 1
    assert torch.equal(trace.mean(-1, -1), trace.mean(*last))
    assert torch.equal(maps.mean(-1, step=-1, head=-1), maps.mean(1, step=2, head=1))
    assert torch.equal(trace.patch_maps(-1), trace.patch_maps(1))
    assert torch.equal(trace.patch_maps(np.int64(0), layer=-1), trace.patch_maps(0, layer=3))
    hops = [
        probe.two_hop(trace, maps, layer, head, picture)
        for layer, head, picture in (
            (-1, -1, -1),
            (3, 3, np.int64(1)),
        )
    ]
    assert torch.equal(*hops)
    assert steps.pictures(model, torch.tensor(-1))[0][0] == steps.pictures(model, 1)[0][0]


@pytest.mark.parametrize("wrong, error", [(9, ValueError), (-9, ValueError), ("0", TypeError)])
def test_what_was_not_recorded_is_refused(model, recorded, wrong, error):
    trace, maps, steps = recorded
    for ask in (
        lambda: trace.mean(layer=wrong),
        lambda: trace.mean(head=wrong),
        lambda: trace.patch_maps(wrong),
        lambda: trace.patch_maps(0, layer=wrong),
        lambda: trace.plot(query=wrong),
        lambda: trace.plot(layer=wrong),
        lambda: maps.mean(wrong),
        lambda: maps.mean(step=wrong),
        lambda: maps.mean(head=wrong),
        lambda: probe.two_hop(trace, maps, layer=wrong),
        lambda: probe.two_hop(trace, maps, picture=wrong),
        lambda: steps.pictures(model, wrong),
        lambda: probe.dream_attention(model, PROMPTS[0], image=wrong),
    ):
        with pytest.raises(error, match=r"-?9|a number, not a str"):
            ask()


def test_rows_to_record_are_positions_of_the_pass(model):
    with probe.watch_input(model, torch.tensor([3, 9])) as expected:
        model.encode(PROMPTS[0])
    tokens = expected[0].shape[-1]
    for positions in ([3, 9], (np.int64(3), 9), [3 - tokens, 9 - tokens], np.array([3, 9])):
        with probe.watch_input(model, positions) as rows:
            model.encode(PROMPTS[0])
        assert all(map(torch.equal, rows, expected)) and len(rows) == len(expected)
    with probe.watch_input(model, range(3, 4)) as rows, probe.watch_input(model, 3) as one:
        model.encode(PROMPTS[0])
    assert torch.equal(rows[1], one[1])
    assert_close(rows[1][:, :, 0], expected[1][:, :, 0])
    for wrong in ([tokens], [-tokens - 1], [], [3, 3], "3"):
        with pytest.raises((ValueError, TypeError), match="position"):
            with probe.watch_input(model, wrong):
                model.encode(PROMPTS[0])


def test_painted_images_of_a_document_are_counted_like_a_list(model):
    picture = Image.new("RGB", (32, 32), "red")
    document = Document(["a", picture, "b", picture])
    traces = [probe.dream_attention(model, document, image=each).weights for each in (1, -1)]
    first = [probe.dream_attention(model, document, image=each).weights for each in (-2, 0)]
    assert torch.equal(*traces) and torch.equal(*first)
    for wrong in (2, -3):
        with pytest.raises(ValueError, match=f"painted image {wrong} .*; the document has 2"):
            probe.dream_attention(model, document, image=wrong)
    for wrong in (True, "0", None):
        with pytest.raises(TypeError, match="painted image is a number"):
            probe.dream_attention(model, document, image=wrong)


def test_timesteps_labels_seeds_and_words_may_be_one_or_several(model):
    picture, states = Image.new("RGB", (32, 32), "red"), model.encode(PROMPTS)
    losses = [probe.DenoisingTarget(model, picture, steps)(states) for steps in (500, [500])]
    assert torch.equal(*losses)
    for wrong, error in ((1000, ValueError), (-1, ValueError), ([], ValueError), ("5", TypeError)):
        with pytest.raises(error, match="timestep"):
            probe.DenoisingTarget(model, picture, wrong)
    stream = torch.randn(2, 12, 3, 5, generator=torch.Generator().manual_seed(0))
    labels = [0, 1, 1] * 4
    for given in (torch.tensor(labels), np.array(labels)):
        found = probe.linear_probes(stream, given, held_out=np.int64(4))
        assert_close(found.accuracy, probe.linear_probes(stream, labels, held_out=4).accuracy)
    with pytest.raises(ValueError, match="neutral word '' has no token"):
        probe.feature_ablation(model, PROMPTS[0], lambda states: states[:, 0, 0], neutral="")
    with pytest.raises(ValueError, match="steps is at least 1, and not 0"):
        probe.integrated_gradients(model, PROMPTS[0], lambda states: states[:, 0, 0], steps=0)
    painted = paint_dreams(model, PROMPTS[0], seeds=3, guidance=2)
    assert list(painted) == [2] and len(painted[2]) == 1
    explorer = explore_dreams(model, PROMPTS[0], seeds=[3], guidance=[2])
    assert explorer.controls["prompt"].options == (PROMPTS[0],)
