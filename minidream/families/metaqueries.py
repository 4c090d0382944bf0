"""After DreamLLM: MetaQueries (Pan et al. 2025). The language model stays frozen; queries and a small connector learn.

What the frozen model knows shall come through unspoilt. The connector is a transformer encoder between the queries' states and the
U-Net, its attention bidirectional. In the language model the queries are causal, like words, or all see one another: both
are built here. (Its frozen model can see; ours cannot yet, so that the visual projector learns along.)
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from ..dream_queries import block_index
from ..llm import causal_mask
from ..model import DreamLLM
from ..weights import toy
from .family import Family, FamilyPlan, base_model
from .samples import IMAGE_KINDS, TEXT_KINDS


class BidirectionalQueries(nn.Module):
    """Stands in the place of a layer's `DotProductAttention` and lets the queries of a block see one another, the later ones too.

    Args:
        inner: what it stands for.
    """

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner
        self.blocks: list[
            tuple[int, int]
        ] = []  # (row, first position) among the tokens of this reading
        self.queries = 0  # in each block

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """As `DotProductAttention.forward`."""
        if self.blocks:
            tokens, inputs = query.shape[2], key.shape[2]
            if mask is None:
                mask = causal_mask(
                    torch.ones(len(query), inputs, dtype=torch.bool, device=query.device), tokens
                )
            number = torch.zeros(
                len(query), inputs, dtype=torch.long, device=query.device
            )  # of its block; 0 is none
            rows, positions = block_index(self.blocks, self.queries, query.device)
            number[rows, positions + inputs - tokens] = (
                1 + torch.arange(len(self.blocks), device=query.device)[:, None]
            )
            alike = rearrange(
                number[:, inputs - tokens :], "batch tokens -> batch tokens 1"
            ) == rearrange(number, "batch inputs -> batch 1 inputs")
            inside = alike & rearrange(number > 0, "batch inputs -> batch 1 inputs")
            mask = mask | rearrange(inside, "batch tokens inputs -> batch 1 tokens inputs")
        return self.inner(query, key, value, mask)


class Bidirectional(DreamLLM):
    """A DreamLLM whose dream queries see one another in every layer."""

    def __init__(self, *boxes):
        super().__init__(*boxes)
        for layer in self.llm.layers:
            layer.self_attn.attend = BidirectionalQueries(layer.self_attn.attend)

    def embed(self, batch, images):
        """As `DreamLLM.embed`; what is embedded is read next, so that the layers learn here where its queries stand."""
        for layer in self.llm.layers:
            layer.self_attn.attend.blocks, layer.self_attn.attend.queries = (
                batch.queries,
                self.queries,
            )
        return super().embed(batch, images)


class Connector(nn.Module):
    """States of queries to conditions: a transformer layer among them all, then the U-Net's width."""

    def __init__(self, llm_dim: int, condition_dim: int, layers: int = 1, heads: int = 6):
        super().__init__()
        self.norm = nn.LayerNorm(llm_dim)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                llm_dim,
                heads,
                3 * llm_dim // 2,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(layers)
        )
        self.out = nn.Linear(llm_dim, condition_dim)

    def forward(self, states: Tensor) -> Tensor:
        """(batch, queries, llm_dim) to (batch, queries, condition_dim)."""
        states = self.norm(states)
        for layer in self.layers:
            states = layer(states)
        return self.out(states)


def metaqueries(
    plan: FamilyPlan, name: str = "metaqueries", kind: type[DreamLLM] = DreamLLM
) -> Family:
    """Queries, connector and the visual projector learn."""
    model = base_model()
    model = kind(
        model.llm, model.vision, model.decoder, model.dream_queries, model.tokenizer, model.config
    )
    model.decoder.projector = Connector(toy.LLM_SIZE, toy.CONDITION_SIZE)
    return Family(
        name,
        model,
        plan.recipe(2e-3),
        IMAGE_KINDS + TEXT_KINDS,
        [model.dream_queries, model.decoder.projector, model.vision.projector],
    )


def bidirectional(plan: FamilyPlan) -> Family:
    """The same with queries that see one another in the language model too."""
    return metaqueries(plan, "metaqueries-bidirectional", Bidirectional)
