"""The query former, and Flamingo's resampler: sets of patches to a few tokens."""

import random

import pytest
import torch
from families_shared import build, noise, pretrained

from minidream.families import flamingo, qformer, samples
from minidream.weights import toy


@pytest.mark.parametrize("patches", [3, 7])
def test_any_number_of_patches_becomes_the_same_number_of_tokens(patches):
    seen = noise(2, patches, 8)
    for module, width in (
        (flamingo.Resampler(8, tokens=5), 8),
        (qformer.QueryFormer(8, 6, tokens=5, layers=2), 6),
    ):
        found = module(seen)
        assert found.shape == (2, 5, width)
        torch.testing.assert_close(
            module(seen.flip(1)), found, rtol=1e-4, atol=1e-5
        )  # patches are a set: places come from CLIP
        assert (
            module(seen * torch.tensor([1.0, -1.0])[:, None, None])[0] - found[0]
        ).abs().max() < 1e-5


def test_a_picture_takes_as_many_positions_as_the_query_former_has_tokens():
    system, sample = (
        build("qformer"),
        samples.draw_sample("caption", random.Random(0)),
    )
    model, (layout, _) = system.model, system.lay_out(sample)
    assert (
        model.vision.patches
        == qformer.TOKENS
        == layout.ids.count(model.tokenizer.special.im_patch)
        < pretrained().vision.patches
    )
    assert model.vision(model.vision.pixels(sample.pictures)).shape == (
        1,
        qformer.TOKENS,
        toy.LLM_SIZE,
    )
