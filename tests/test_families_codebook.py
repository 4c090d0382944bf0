"""The codebook, worked by hand on three codes."""

import pytest
import torch

from minidream.families import codebook


def identity_codebook():
    """Codes of two numbers: (0, 0), (1, 0), (0, 2); nothing on the way in or out."""
    book = codebook.Codebook(channels=2, codes=3, dim=2)
    with torch.no_grad():
        book.codes.copy_(torch.tensor([[0.0, 0], [1, 0], [0, 2]]))
    return book


def test_the_gradient_passes_straight_through_the_codebook():
    book, vectors = identity_codebook(), torch.tensor([[0.9, 0.2], [0.2, 1.5]], requires_grad=True)
    quantized, loss = book.quantize(vectors)
    torch.testing.assert_close(quantized, torch.tensor([[1.0, 0], [0, 2]]))
    assert loss.item() == pytest.approx(1.25 * (0.1**2 + 0.2**2 + 0.2**2 + 0.5**2) / 4)
    weights = torch.tensor([[3.0, -1], [0.5, 7]])
    (gradient,) = torch.autograd.grad((quantized * weights).sum(), vectors, retain_graph=True)
    assert torch.equal(gradient, weights)  # as if the vectors themselves had been handed on
    (drawn,) = torch.autograd.grad(
        loss, book.codes
    )  # the codes are drawn to the vectors, each by its own
    torch.testing.assert_close(drawn, torch.tensor([[0.0, 0], [0.1, -0.2], [-0.2, 0.5]]) / 2)


def test_codes_are_ordered_row_by_row_and_decode():
    book, numbers = identity_codebook(), torch.tensor([[0, 1, 2, 2, 1, 0]])
    latents = book.decode_codes(numbers, height=2)
    assert (
        latents.shape == (1, 2, 2, 3)
        and latents[0, :, 0, 2].tolist() == [0, 2]
        and latents[0, :, 1, 1].tolist() == [1, 0]
    )
    assert torch.equal(book.encode_latents(latents + 0.1), numbers)


def test_codes_start_far_from_one_another():
    cells = torch.tensor([[0.0], [0.1], [0.2], [5.0], [-3.0]])
    assert codebook.farthest_points(cells, 3).flatten().tolist() == [0.0, 5.0, -3.0]
