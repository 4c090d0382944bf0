"""What a step of fine-tuning needs: against the counts of the published sizes, and by hand."""

from functools import partial

import pytest
import torch
from models_shared import untrained_toy
from torch import nn

from minidream.tuning import needs as module
from minidream.tuning.choices import choose
from minidream.tuning.needs import Needs, fitting, kept_for_backward, needs
from minidream.weights import memory
from minidream.weights.fake import outline_7b


def near(count: float):
    return pytest.approx(count, rel=0.02)


def test_a_lora_of_the_published_weights_needs_what_the_table_says():
    pytest.importorskip("peft")
    model = outline_7b(None).to(torch.bfloat16)
    choose(model, ("lora",), rank=memory.RANK)
    positions = memory.POSITIONS["tuning"]
    found = needs(model, rows=1, positions=positions, pictures=1)
    layers = model.llm.config.num_hidden_layers
    kept = memory.KEPT_PER_LAYER_AND_POSITION * layers * positions + memory.KEPT_BY_UNET
    assert found.kept == near(kept)
    assert found.all + memory.CUDA_CONTEXT == near(memory.needed_bytes("tuning", "bfloat16"))
    again = needs(model, rows=1, positions=positions, pictures=1, checkpointing=True)
    inputs = layers * positions * 4096 * 2
    one_layer = memory.KEPT_PER_LAYER_AND_POSITION * positions
    assert again.kept == near(one_layer + inputs + memory.KEPT_BY_UNET)
    eighth = needs(model, rows=1, positions=positions, pictures=1, share=8)
    assert eighth.learning == found.learning // 8
    # Seven eighths of 30 layers are elsewhere, and seven eighths of the other two come and go.
    layer = sum(each.nbytes for each in model.llm.layers[0].parameters())
    assert found.weights - eighth.weights > 7 * layers * layer // 8 - 2 * layer - 3e9
    assert (eighth.kept, eighth.logits) == (found.kept, found.logits)


def test_more_documents_and_more_that_learns_need_more():
    model = untrained_toy()
    choose(model, ("projectors",))
    one = needs(model, rows=1, positions=40, pictures=1)
    three = needs(model, rows=3, positions=40, pictures=1)
    assert (three.kept, three.logits) == (3 * one.kept, 3 * one.logits)
    assert one.logits == 3 * 40 * len(model.tokenizer) * 4
    choose(model, ("projectors", "unet", "llm"))
    more = needs(model, rows=1, positions=40, pictures=1)
    assert more.kept > one.kept and more.weights == one.weights
    learned = [model.llm, model.decoder.unet, model.decoder.projector, model.vision.projector]
    numbers = sum(each.numel() for part in learned for each in part.parameters())
    assert more.learning == 16 * (numbers + model.dream_queries.numel())


def test_what_is_kept_by_hand():
    linear = nn.Linear(5, 7).requires_grad_(False)
    inputs = torch.empty(3, 5, device="meta", requires_grad=True)
    assert kept_for_backward(linear, inputs) == 0
    assert kept_for_backward(nn.Sequential(linear, nn.Sigmoid()), inputs) == 4 * 21
    linear.requires_grad_(True)
    assert kept_for_backward(linear, inputs) == 4 * 15


def counted(checkpointing: bool) -> Needs:
    return Needs(weights=100, learning=10, kept=5 if checkpointing else 50, logits=1)


@pytest.mark.parametrize(
    "device, free, there, again",
    [("cuda", 61, True, False), ("cuda", 60, True, True), ("cuda", 116, False, True)],
)
def test_layers_are_computed_again_where_nothing_else_fits(monkeypatch, device, free, there, again):
    monkeypatch.setattr(module, "free_bytes", lambda device: free)
    assert fitting(counted, torch.device(device), False, there) == (counted(again), again)


def test_what_does_not_fit_is_refused_with_both_numbers(monkeypatch):
    monkeypatch.setattr(module, "free_bytes", lambda device: 15)
    refused = partial(pytest.raises, MemoryError, match="memory: 0.00 GB = .* are free on c")
    with refused():
        fitting(counted, torch.device("cuda"), False)
    with refused():
        fitting(counted, torch.device("cpu"), False)
    monkeypatch.setattr(module, "free_bytes", lambda device: 16)
    with refused():  # on the CPU, only if the user asks for it
        fitting(counted, torch.device("cpu"), False)
    assert fitting(counted, torch.device("cpu"), True) == (counted(True), True)
