"""SEED: codes on a grid, a causal tokenizer, and pictures painted from codes."""

import random

import pytest
import torch
from families_shared import build, noise
from torch.nn import functional as F

from minidream.families import qformer, samples, seed


@pytest.fixture(scope="module")
def system():
    return build("seed")


def test_numbers_are_rounded_to_four_levels_with_a_straight_through_gradient():
    numbers = torch.tensor([-9.0, -0.4, 0.4, 0.6, 9.0], requires_grad=True)
    points = seed.rounded(numbers)
    # tanh of 0.4 and of 0.6, twice, are 0.76 and 1.07.
    torch.testing.assert_close(points, torch.tensor([-1.5, -0.5, 0.5, 1.5, 1.5]))
    (slope,) = torch.autograd.grad(points.sum(), numbers)
    torch.testing.assert_close(slope, 2 * (1 - torch.tanh(numbers.detach()) ** 2))


def test_every_point_of_the_grid_has_a_code_of_its_own():
    codes = torch.arange(seed.CODES)
    points = seed.points_of(codes)
    assert len({tuple(point) for point in points.tolist()}) == seed.CODES == 256
    assert torch.equal(seed.codes_of(points), codes)
    assert seed.points_of(torch.tensor([[1, 4]])).tolist() == [
        [[-0.5, -1.5, -1.5, -1.5], [-1.5, -0.5, -1.5, -1.5]]
    ]
    torch.testing.assert_close(seed.rounded(torch.atanh(points / 2)), points)


def test_a_causal_former_sees_only_earlier_queries():
    former = qformer.QueryFormer(8, 6, tokens=5, causal=True)
    patches = noise(2, 7, 8)
    whole = former(patches)
    with torch.no_grad():
        former.queries[3] += noise(8, seed=2)  # not by a constant, which a norm would remove
    changed = (former(patches) - whole).abs().amax(dim=(0, 2)) > 1e-4
    assert changed.tolist() == [False] * 3 + [True] * 2
    other = qformer.QueryFormer(8, 6, tokens=5)
    before = other(patches)
    with torch.no_grad():
        other.queries[3] += noise(8, seed=2)
    assert ((other(patches) - before).abs().amax(dim=(0, 2)) > 1e-4).all()


def test_the_tokenizer_learns_states_and_captions(system):
    _, tokenizer = system.earlier_phases
    batch = tokenizer.batch(0, 0, 0)
    losses = tokenizer(batch, None)
    true = tokenizer.encoder.states_of([sample.reply for sample in batch])
    codes = tokenizer.encode_pictures([sample.reply for sample in batch])
    assert codes.shape == (3, 32) and 0 <= codes.min() and codes.max() < 256
    error = F.mse_loss(tokenizer.decode_codes(codes), true)
    torch.testing.assert_close(losses["error"], error, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        losses["total"], losses["error"] + seed.ALIGNMENT_WEIGHT * losses["match"]
    )
    # The order of codes matters, though attention alone does not know it.
    turned = tokenizer.decode_codes(codes.flip(1))
    assert (turned - tokenizer.decode_codes(codes)).abs().max() > 1e-3
    assert not any(value.requires_grad for value in tokenizer.text_tower.parameters())


def test_equal_captions_are_one(system):
    _, tokenizer = system.earlier_phases
    with torch.no_grad():
        tokenizer.log_scale.fill_(4.6)
    captions = ["a large red circle", "a large red circle", "a small blue star"]
    states = noise(3, 96)
    found = tokenizer.match(states[[0, 0, 1]], captions)
    # If both pictures of one caption are equal, each gives half to both: the least is ln 2.
    assert found.item() > 2 / 3 * 0.693 - 1e-3
    one_each = tokenizer.match(states[:2], captions[1:])
    assert one_each.item() != pytest.approx(found.item())


def test_pictures_are_words_of_the_language_model_and_are_painted_from_their_states(system):
    painter, tokenizer = system.phases[:2]
    assert system.phases[2] is system and system.codes_per_picture == 32
    sample = samples.draw_sample("edit", random.Random(0))
    (tokens,) = system.picture_tokens([sample], replies=True)
    wanted = system.first_code + tokenizer.encode_pictures([sample.pictures[0], sample.reply])
    assert tokens == wanted.tolist()
    codes = wanted - system.first_code
    painted = system.paint_codes(codes)
    for one, other in zip(painted, painter.paint(tokenizer.decode_codes(codes)), strict=True):
        assert one.tobytes() == other.tobytes()
    (reply,) = system.replies([samples.draw_sample("pair", random.Random(0))])
    assert reply.size == (64, 64)
