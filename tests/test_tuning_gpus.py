"""What the 7B needs on many GPUs: the counts by hand, and what has to hold between them."""

import pytest
import torch

from minidream.tuning import gpus
from minidream.tuning.gpus import COUNTS, STAGES, forward_operations, model_of, operations, plan
from minidream.weights.memory import CUDA_CONTEXT, file_sizes


def test_the_operations_of_a_forward_pass_by_hand():
    positions, width, inner, layers, words = 512, 4096, 11008, 32, 32008
    found = forward_operations(model_of("I"), positions, pictures=3)
    matrices = 4 * width**2 + 3 * width * inner
    attention = 2 * positions * width  # scores, and the sum of values; torch counts all pairs
    assert found["layers"] == 2 * positions * layers * (matrices + attention)
    assert found["output"] == 2 * positions * width * words
    # Published: 0.34 of 10^12 products for the U-Net of Stable Diffusion at 64 x 64.
    assert found["U-Net"] / 3 == pytest.approx(2 * 0.34e12, rel=0.25)
    assert found["frozen"] > 0


def test_a_stage_in_which_the_language_model_learns_by_hand():
    parts = forward_operations(model_of("II"), STAGES["II"].positions, STAGES["II"].pictures)
    expected = 4 * parts["layers"] + 3 * parts["output"] + 2 * parts["U-Net"] + parts["frozen"]
    assert operations("II") == expected
    # The usual estimate, eight operations for each weight and position.
    numbers = file_sizes()["model"][1]
    assert operations("II") == pytest.approx(8 * numbers * 2048, rel=0.15)


@pytest.mark.parametrize("name", STAGES)
def test_more_gpus_need_less_on_each_and_less_time(name):
    found = [plan(name, count) for count in COUNTS]
    assert found[0].bytes > found[1].bytes > found[2].bytes
    for count, each in zip(COUNTS, found):
        assert each.days * count == pytest.approx(found[0].days)
        assert (each.at_once > 0) == (each.bytes <= gpus.CARD)


def test_what_learns_decides_what_fits():
    numbers = file_sizes()["model"][1]
    everything = plan("II", 1)
    # In float32: weights, gradients, two moments of AdamW, a moving average.
    assert everything.bytes > 5 * 4 * numbers and everything.at_once == 0
    alone = plan("I", 1)
    assert alone.at_once > 1 and alone.bytes < 24e9
    small = plan("I", 1, card=alone.bytes)
    assert small.at_once == 1 and plan("I", 1, card=alone.bytes - 1).at_once == 0
    assert plan("I", 1, speed=1e12).days == pytest.approx(
        STAGES["I"].documents * operations("I") / 1e12 / 86_400
    )
    assert alone.bytes > CUDA_CONTEXT + 2 * sum(count for _, count in file_sizes().values())


def test_the_table_has_a_row_for_each_stage_and_number():
    lines = gpus.gpus_table().splitlines()
    assert len(lines) == 2 + len(STAGES) * (len(COUNTS) + 1)
    assert any(line.startswith("| II | 1 |") and "| none | – |" in line for line in lines)
    assert {each.device.type for each in model_of("I").parameters()} == {torch.device("meta").type}
