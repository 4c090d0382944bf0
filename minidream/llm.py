"""The language model: LLaMA, written out in einops.

Module names are those of the LLaMA checkpoints, so that weights load by name. Sources: LLaMA (Touvron et al. 2023), with
RMSNorm (Zhang & Sennrich 2019), rotary positions (Su et al. 2021), SwiGLU (Shazeer 2020) and grouped key/value heads
(Ainslie et al. 2023). Paper: DreamLLM starts from Vicuna-7B, which is a LLaMA.
"""

from dataclasses import dataclass

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class LLMConfig:
    """Sizes of a LLaMA, named as in its `config.json`."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0

    def __post_init__(self):
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of num_key_value_heads {self.num_key_value_heads}"
            )
        if self.head_dim % 2:
            raise ValueError(
                f"rotary positions turn pairs of numbers, so head_dim must be even, not {self.head_dim}"
            )

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden_size // self.num_attention_heads


class RMSNorm(nn.Module):
    """Scales each token to unit root mean square (in float32), then by a learned weight per dimension."""

    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, hidden: Tensor) -> Tensor:
        """Any shape (..., dim) to the same shape and dtype."""
        wide = hidden.float()
        wide = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps)
        return self.weight * wide.to(hidden.dtype)


def rotary_angles(positions: Tensor, head_dim: int, theta: float) -> Tensor:
    """How far each pair of numbers is turned at each position: shape (batch, tokens, head_dim / 2), radians, float32.

    Pair i turns by theta^(-2i / head_dim) per position: the first fast, the last hardly at all.
    """
    # Recomputed in float32 on every call: a checkpoint's stored frequencies may have been rounded to bfloat16.
    pairs = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32)
    return einsum(
        positions.float(), theta ** (-pairs / head_dim), "batch tokens, pairs -> batch tokens pairs"
    )


def rotate(heads: Tensor, angles: Tensor) -> Tensor:
    """Turns the pairs (i, i + head_dim / 2) of each head, LLaMA's "rotate-half" pairing.

    Args:
        heads: queries or keys, shape (batch, heads, tokens, head_dim).
        angles: shape (batch, tokens, head_dim / 2), radians.
    """
    angles = rearrange(angles, "batch tokens pairs -> batch 1 tokens pairs")
    cos, sin = angles.cos().to(heads.dtype), angles.sin().to(heads.dtype)
    first, second = heads.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class DotProductAttention(nn.Module):
    """softmax(query key / sqrt(head_dim)) value. A module of its own, so that a probe can watch what goes in.

    It has no weights; `minidream.probe` hooks it to compute the rows that it wants from the very same queries and keys.
    """

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """query (batch, heads, tokens, head_dim); key, value (batch, heads, inputs, head_dim); mask (batch, 1, tokens,
        inputs), True where a token may look, or None for plain causal attention among as many inputs as tokens."""
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None
        )


class Attention(nn.Module):
    """Causal self-attention with rotary positions and grouped key/value heads."""

    def __init__(self, config: LLMConfig):
        super().__init__()
        self.config = config
        inner = config.num_attention_heads * config.head_dim
        grouped = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, inner, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, grouped, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, grouped, bias=False)
        self.o_proj = nn.Linear(inner, config.hidden_size, bias=False)
        self.attend = DotProductAttention()

    def forward(
        self,
        hidden: Tensor,
        angles: Tensor,
        mask: Tensor | None,
        past: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, tuple]:
        """hidden (batch, tokens, dim) to the same shape, and the keys and values of all inputs so far."""
        split = "batch tokens (heads head_dim) -> batch heads tokens head_dim"
        query = rotate(rearrange(self.q_proj(hidden), split, head_dim=self.config.head_dim), angles)
        key = rotate(rearrange(self.k_proj(hidden), split, head_dim=self.config.head_dim), angles)
        value = rearrange(self.v_proj(hidden), split, head_dim=self.config.head_dim)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        # Each group of query heads shares one key/value head; the cache keeps only the shared ones.
        groups = self.config.num_attention_heads // self.config.num_key_value_heads
        shared = "batch heads inputs head_dim -> batch (heads groups) inputs head_dim"
        mixed = self.attend(
            query, repeat(key, shared, groups=groups), repeat(value, shared, groups=groups), mask
        )
        return self.o_proj(
            rearrange(mixed, "batch heads tokens head_dim -> batch tokens (heads head_dim)")
        ), (key, value)


class SwiGLU(nn.Module):
    """The feed-forward part: silu(gate) * up, projected down."""

    def __init__(self, config: LLMConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, tokens, dim) to the same shape."""
        return self.down_proj(F.silu(self.gate_proj(hidden)) * self.up_proj(hidden))


class Layer(nn.Module):
    """One LLaMA layer: attention and feed-forward, each on normed input, added to the residual stream."""

    def __init__(self, config: LLMConfig):
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = SwiGLU(config)

    def forward(
        self, hidden: Tensor, angles: Tensor, mask: Tensor | None, past=None
    ) -> tuple[Tensor, tuple]:
        """As `Attention.forward`."""
        mixed, present = self.self_attn(self.input_layernorm(hidden), angles, mask, past)
        hidden = hidden + mixed
        return hidden + self.mlp(self.post_attention_layernorm(hidden)), present


class Cache:
    """Keys and values of everything read so far, one pair per layer, each (batch, key/value heads, inputs, head_dim).

    Also which inputs are real (`mask`, shape (batch, inputs)), since a left-padded batch must not look at its padding.
    """

    def __init__(self):
        self.layers: list[tuple[Tensor, Tensor]] = []
        self.mask: Tensor | None = None

    def __len__(self) -> int:
        return 0 if self.mask is None else self.mask.shape[1]


class LLM(nn.Module):
    """A LLaMA decoder on embeddings.

    It takes embeddings rather than ids, since dream queries and image patches have no ids: `embed_tokens` looks ids up,
    `model.py` puts the others in their places.
    """

    def __init__(self, config: LLMConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def initialize(self, generator: torch.Generator, std: float = 0.02) -> None:
        """Draws all weight matrices from N(0, std), as LLaMA's training starts."""
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=std, generator=generator)

    def forward(
        self, embeddings: Tensor, mask: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """Final-norm hidden states.

        Args:
            embeddings: shape (batch, tokens, dim).
            mask: shape (batch, tokens), True where a token stands, False where padding does; None means no padding.
                Positions are counted over what stands, so that padding on the left changes nothing.
            cache: what was read before; these tokens are appended to it.

        Returns:
            Shape (batch, tokens, dim), after the final norm (transformers' `hidden_states[-1]`).

        Raises:
            ValueError: if cache and tokens together exceed the context.
        """
        batch, tokens, _ = embeddings.shape
        before = len(cache) if cache is not None else 0
        if before + tokens > self.config.max_position_embeddings:
            raise ValueError(
                f"{before + tokens} tokens do not fit into a context of {self.config.max_position_embeddings}"
            )
        real = (
            torch.ones(batch, tokens, dtype=torch.bool, device=embeddings.device)
            if mask is None
            else mask
        )
        if cache is not None:
            real = real if cache.mask is None else torch.cat([cache.mask, real], dim=1)
            cache.mask = real
        positions = (real.long().cumsum(dim=1) - 1).clamp(min=0)[:, before:]
        angles = rotary_angles(positions, self.config.head_dim, self.config.rope_theta)
        allowed = None
        if before or mask is not None:
            allowed = causal_mask(real, tokens)
        hidden = embeddings
        for number, layer in enumerate(self.layers):
            past = cache.layers[number] if before else None
            hidden, present = layer(hidden, angles, allowed, past)
            if cache is not None:
                cache.layers[number : number + 1] = [present]
        return self.norm(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token, shape (..., vocabulary), float32, from final-norm hidden states."""
        return self.lm_head(hidden).float()


def causal_mask(real: Tensor, tokens: int) -> Tensor:
    """Which inputs the last `tokens` of a batch may look at: themselves and what stands before them, never padding.

    Args:
        real: shape (batch, inputs), False at padding.

    Returns:
        bool, shape (batch, 1, tokens, inputs). A padding token looks at itself alone, so that its softmax has a sum.
    """
    inputs = real.shape[1]
    order = torch.arange(inputs, device=real.device)
    rows = rearrange(order[inputs - tokens :], "tokens -> tokens 1")
    allowed = (order <= rows) & rearrange(real, "batch inputs -> batch 1 inputs") | (order == rows)
    return rearrange(allowed, "batch tokens inputs -> batch 1 tokens inputs")
