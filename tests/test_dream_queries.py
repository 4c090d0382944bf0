"""Dream queries: put in their places and taken out again by hand; the projector's shapes."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from minidream.dream_queries import (
    ConditionProjector,
    block_index,
    gather,
    insert,
    new_dream_queries,
)

TINY = Path(__file__).parent / "fixtures" / "tiny-a"


def test_block_index_by_hand():
    rows, positions = block_index([(0, 4), (2, 1), (0, 0)], length=3, device="cpu")
    assert rows.tolist() == [[0, 0, 0], [2, 2, 2], [0, 0, 0]]
    assert positions.tolist() == [[4, 5, 6], [1, 2, 3], [0, 1, 2]]


def test_the_same_queries_go_into_every_block_and_nothing_else_changes():
    embeddings = torch.zeros(3, 7, 2)
    queries = torch.tensor([[[1.0, 10.0], [2.0, 20.0]]])  # (1, queries, dim)
    placed = insert(embeddings, queries, [(0, 5), (2, 1), (2, 4)])
    assert placed[..., 0].tolist() == [[0, 0, 0, 0, 0, 1, 2], [0] * 7, [0, 1, 2, 0, 1, 2, 0]]
    assert torch.equal(placed[..., 1], 10 * placed[..., 0])
    assert embeddings.count_nonzero() == 0, "the embeddings that were given stay as they are"


def test_every_picture_has_patches_of_its_own_in_the_order_of_the_blocks():
    patches = torch.arange(1.0, 7.0).reshape(2, 3, 1)  # picture 0: 1 2 3, picture 1: 4 5 6
    placed = insert(torch.zeros(2, 5, 1), patches, [(1, 0), (0, 2)])
    assert placed[..., 0].tolist() == [[0, 0, 4, 5, 6], [1, 2, 3, 0, 0]]


def test_without_blocks_nothing_is_placed():
    embeddings = torch.randn(2, 3, 5)
    assert torch.equal(insert(embeddings, torch.ones(1, 2, 5), []), embeddings)


def test_gather_takes_out_what_place_put_in():
    vectors = torch.randn(3, 2, 5)
    blocks = [(1, 0), (0, 3), (1, 4)]
    assert_close(
        gather(insert(torch.zeros(2, 7, 5), vectors, blocks), 2, blocks), vectors, atol=0, rtol=0
    )


def test_gradients_of_all_blocks_add_up_in_the_queries():
    queries = torch.zeros(1, 2, 1, requires_grad=True)
    hidden = insert(torch.zeros(2, 6, 1), queries, [(0, 1), (1, 3), (1, 0)])
    weights = torch.tensor([[0.0, 1, 2, 0, 0, 0], [100, 200, 0, 10, 20, 0]]).unsqueeze(-1)
    (hidden * weights).sum().backward()
    assert queries.grad.flatten().tolist() == [111, 222]


def test_placed_vectors_take_the_embeddings_dtype():
    placed = insert(torch.zeros(1, 3, 5, dtype=torch.bfloat16), torch.ones(1, 2, 5), [(0, 1)])
    assert placed.dtype == torch.bfloat16


def test_new_queries_are_small_differ_and_repeat():
    first, second = (new_dream_queries(16, 192, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.shape == (1, 16, 192) and isinstance(first, torch.nn.Parameter)
    assert torch.equal(first, second)
    assert abs(first.std().item() - 0.02) < 0.002
    assert torch.pdist(first[0]).min() > 0.1, (
        "no two queries are the same, or they would ask the same"
    )


@pytest.mark.parametrize(
    "depth, names",
    [
        (1, ["projector.weight"]),
        (3, ["projector.0.weight", "projector.2.weight", "projector.4.weight"]),
    ],
)
def test_projector_is_linear_without_bias_and_named_as_published(depth, names):
    projector = ConditionProjector(llm_dim=7, condition_dim=3, depth=depth)
    assert list(projector.state_dict()) == names, (
        "an MLP puts GELU between, and no layer has a bias"
    )
    assert projector(torch.randn(2, 5, 7)).shape == (2, 5, 3)
    assert projector(torch.zeros(2, 5, 7)).count_nonzero() == 0
    if depth == 1:
        states = torch.randn(2, 5, 7)
        assert_close(projector(states), states @ projector.projector.weight.T)


def test_official_projector():
    projector = ConditionProjector(llm_dim=64, condition_dim=48)
    weights = torch.load(TINY / "checkpoint/stable_diffusion_head.bin", weights_only=True)
    projector.load_state_dict(
        {
            key.removeprefix("projector."): value
            for key, value in weights.items()
            if key.startswith("projector.")
        }
    )
    golden = load_file(TINY / "golden/diffusion_head.safetensors")
    assert_close(projector(golden["encoder_hidden_states"]), golden["condition"], atol=1e-5, rtol=0)
