"""LLaMA-Adapter: closed gates, and one prompt worked by hand."""

import pytest
import torch
from families_shared import noise, tiny_llm

from minidream.families import adapter


def test_closed_gates_change_nothing_and_one_prompt_adds_its_value():
    llm, embeddings = tiny_llm(), noise(2, 5, 8)
    attention = llm.layers[0].self_attn
    wanted, inner = llm(embeddings), attention.attend
    attention.attend = adapted = adapter.AdaptedAttention(attention, prompts=1)
    with pytest.raises(ValueError, match="2 rows need as many pictures, and 0 are set"):
        llm(embeddings)
    adapted.picture = noise(2, 8, seed=2)
    assert torch.equal(llm(embeddings), wanted)
    with torch.no_grad():
        adapted.gate.copy_(torch.tensor([0.0, 0.5, 1.0, -1.0]))
    query, key, value = (
        noise(2, 4, 5, 2, seed=3),
        noise(2, 4, 5, 2, seed=4),
        noise(2, 4, 5, 2, seed=5),
    )
    # A softmax over one prompt is 1 for every query: two query heads each get the value of the
    # key/value head that they share.
    values = attention.v_proj(adapted.prompts + adapted.picture[:, None])[:, 0].reshape(2, 2, 2)
    added = adapted(query, key, value, None) - inner(query, key, value, None)
    for head in range(4):
        wanted = torch.tanh(adapted.gate[head]) * values[:, head // 2]
        torch.testing.assert_close(added[:, head], wanted[:, None].expand(2, 5, 2))
