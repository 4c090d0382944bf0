"""LoRA, worked by hand, before training and merged."""

import torch
from families_shared import noise, tiny_llm
from torch import nn

from minidream.families import lora


def test_lora_changes_nothing_at_first_and_merges_into_the_same_model():
    llm, plain, embeddings = tiny_llm(), tiny_llm(), noise(2, 5, 8)
    added = lora.add_lora(llm, rank=2)
    assert len(added) == 3 * 7 and not any(isinstance(part, lora.LoRA) for part in plain.modules())
    assert torch.equal(llm(embeddings), plain(embeddings))
    for number, detour in enumerate(added):
        nn.init.normal_(detour.up.weight, generator=torch.Generator().manual_seed(number))
    apart = llm(embeddings)
    assert (apart - plain(embeddings)).abs().max() > 0.1
    lora.merge_lora(llm)
    assert {name for name, _ in llm.named_parameters()} == {
        name for name, _ in plain.named_parameters()
    }
    torch.testing.assert_close(llm(embeddings), apart, rtol=1e-4, atol=1e-5)


def test_lora_is_as_precise_as_the_matrix_that_it_changes():
    llm = tiny_llm().bfloat16()
    lora.add_lora(llm, rank=2)
    assert llm(noise(2, 5, 8)).dtype == torch.bfloat16
    lora.merge_lora(llm)
    assert {weight.dtype for weight in llm.parameters()} == {torch.bfloat16}


def test_lora_by_hand():
    linear = nn.Linear(3, 2, bias=False)
    detour = lora.LoRA(linear, rank=1)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0]]))
        detour.down.weight.copy_(torch.tensor([[0.0, 0, 2]]))
        detour.up.weight.copy_(torch.tensor([[1.0], [-1]]))
    assert detour(torch.tensor([3.0, 4, 5])).tolist() == [
        13,
        -6,
    ] and detour.merged().weight.tolist() == [[1, 0, 2], [0, 1, -2]]
