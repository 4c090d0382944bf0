"""MetaQueries (Pan et al. 2025), after DreamLLM: only the queries and a small connector learn.

The language model stays frozen, so that it keeps everything it knows. The connector is a
transformer encoder with bidirectional attention, between the states of the queries and the U-Net.
In the language model the queries are causal, like words (`metaqueries`), or attend to one another
in both directions (`bidirectional`). The frozen model of the paper can already see; ours cannot
yet, so that the visual projector learns along.
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from ..documents import Batch
from ..dream_queries import block_index
from ..llm import causal_mask
from ..model import DreamLLM
from ..weights import toy
from .family import Family, FamilyPlan, base_model
from .samples import IMAGE_KINDS, TEXT_KINDS


class BidirectionalQueries(nn.Module):
    """Replaces a layer's `DotProductAttention`: the queries of a block also attend to later ones.

    Args:
        inner: the layer's attention.
    """

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner
        # (row, first position) of each block, among the tokens of the next forward pass.
        self.blocks: list[tuple[int, int]] = []
        self.queries = 0  # in each block

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """As `DotProductAttention.forward`."""
        if not self.blocks:
            return self.inner(query, key, value, mask)
        batch, tokens, inputs = len(query), query.shape[2], key.shape[2]
        if mask is None:
            real = torch.ones(batch, inputs, dtype=torch.bool, device=query.device)
            mask = causal_mask(real, tokens)
        # The number of the block that each input belongs to, from 1; 0 is none.
        block = torch.zeros(batch, inputs, dtype=torch.long, device=query.device)
        rows, positions = block_index(self.blocks, self.queries, query.device)
        numbers = 1 + torch.arange(len(self.blocks), device=query.device)
        block[rows, positions + inputs - tokens] = rearrange(numbers, "blocks -> blocks 1")
        query_block = rearrange(block[:, inputs - tokens :], "batch tokens -> batch 1 tokens 1")
        key_block = rearrange(block, "batch inputs -> batch 1 1 inputs")
        same_block = (query_block == key_block) & (key_block > 0)
        return self.inner(query, key, value, mask | same_block)


class BidirectionalDreamLLM(DreamLLM):
    """A DreamLLM whose dream queries attend to one another, in both directions, in every layer.

    Args:
        model: whose parts it takes over.
    """

    def __init__(self, model: DreamLLM):
        super().__init__(
            model.llm,
            model.vision,
            model.decoder,
            model.dream_queries,
            model.tokenizer,
            model.config,
        )
        for layer in self.llm.layers:
            layer.self_attn.attend = BidirectionalQueries(layer.self_attn.attend)

    def embed(self, batch: Batch, images: list, seen: Tensor | None = None) -> Tensor:
        """As `DreamLLM.embed`.

        The language model reads a batch right after it is embedded. Therefore the layers get the
        positions of its queries here.
        """
        for layer in self.llm.layers:
            attention = layer.self_attn.attend
            attention.blocks, attention.queries = batch.queries, self.queries
        return super().embed(batch, images, seen)


class Connector(nn.Module):
    """Maps states of queries to conditions: a transformer encoder, then a linear layer.

    Args:
        llm_dim: width of the states.
        condition_dim: width of the conditions.
        layers: of the encoder.
        heads: of its attention.
    """

    def __init__(self, llm_dim: int, condition_dim: int, layers: int = 1, heads: int = 6):
        super().__init__()
        self.norm = nn.LayerNorm(llm_dim)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                llm_dim,
                heads,
                dim_feedforward=3 * llm_dim // 2,
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


def with_connector(name: str, model: DreamLLM, plan: FamilyPlan) -> Family:
    """Gives a model a connector; the family trains it, the queries and the visual projector."""
    model.decoder.projector = Connector(toy.LLM_SIZE, toy.CONDITION_SIZE)
    trained = [model.dream_queries, model.decoder.projector, model.vision.projector]
    return Family(name, model, plan.recipe(2e-3), IMAGE_KINDS + TEXT_KINDS, trained)


def metaqueries(plan: FamilyPlan) -> Family:
    """The family with causal queries."""
    return with_connector("metaqueries", base_model(), plan)


def bidirectional(plan: FamilyPlan) -> Family:
    """The family whose queries attend to one another in the language model too."""
    model = BidirectionalDreamLLM(base_model())
    return with_connector("metaqueries-bidirectional", model, plan)
