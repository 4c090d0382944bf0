"""Cross-attention against torch's own."""

import torch
from families_shared import noise
from torch import nn

from minidream.families import cross_attention


def test_cross_attention_equals_torchs():
    ours, theirs = (
        cross_attention.CrossAttention(8, 6, 8, heads=2),
        nn.MultiheadAttention(8, 2, bias=False, kdim=6, vdim=6, batch_first=True),
    )
    with torch.no_grad():
        for name, weight in (
            ("q_proj", theirs.q_proj_weight),
            ("k_proj", theirs.k_proj_weight),
            ("v_proj", theirs.v_proj_weight),
            ("o_proj", theirs.out_proj.weight),
        ):
            getattr(ours, name).weight.copy_(weight)
    hidden, seen = noise(2, 3, 8), noise(2, 5, 6, seed=2)
    torch.testing.assert_close(
        ours(hidden, seen), theirs(hidden, seen, seen, need_weights=False)[0], rtol=1e-4, atol=1e-5
    )
