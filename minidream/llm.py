"""The language model: LLaMA, written out in einops.

Modules have the names of the LLaMA checkpoints, so that weights load by name. Sources: LLaMA
(Touvron et al. 2023), with RMSNorm (Zhang & Sennrich 2019), rotary position embeddings (Su et al.
2021), SwiGLU (Shazeer 2020) and grouped key/value heads (Ainslie et al. 2023). Paper: DreamLLM
starts from Vicuna-7B, which is a LLaMA.
"""

from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .images import dtype_of


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
        heads = self.num_attention_heads
        if self.hidden_size % heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {heads}"
            )
        if heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads {heads} is not a multiple of num_key_value_heads "
                f"{self.num_key_value_heads}"
            )
        if self.head_dim % 2:
            raise ValueError(
                "rotary position embeddings rotate pairs of numbers, so head_dim must be even, "
                f"not {self.head_dim}"
            )

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden_size // self.num_attention_heads


class RMSNorm(nn.Module):
    """Divides each token by its root mean square (in float32), then scales each dimension."""

    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, hidden: Tensor) -> Tensor:
        """Any shape (..., dim) to the same shape and dtype."""
        normed = F.rms_norm(hidden.float(), hidden.shape[-1:], eps=self.eps)
        scaled = self.weight * normed.to(hidden.dtype)
        return scaled if scaled.dtype == hidden.dtype else scaled.to(hidden.dtype)


def rotary_angles(positions: Tensor, head_dim: int, theta: float) -> Tensor:
    """The angle by which each pair of numbers is rotated at each position.

    Pair i is rotated by theta^(-2i / head_dim) per position: the first fast, the last slowly.

    Args:
        positions: shape (batch, tokens), integers.
        head_dim: width of a head, which is twice the number of pairs.
        theta: base of the frequencies.

    Returns:
        Radians, float32, shape (batch, tokens, head_dim / 2).
    """
    # Recomputed in float32 on every call: frequencies stored in a checkpoint may have been rounded
    # to bfloat16.
    pairs = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32)
    frequencies = theta ** (-pairs / head_dim)
    return einsum(positions.float(), frequencies, "batch tokens, pairs -> batch tokens pairs")


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates the pairs (i, i + head_dim / 2) of each head: LLaMA's "rotate-half" pairing.

    Args:
        heads: queries or keys, shape (batch, heads, tokens, head_dim).
        cos, sin: of the angles, any shape that broadcasts to (batch, heads, tokens, head_dim / 2).

    Returns:
        The shape and dtype of `heads`.
    """
    cos, sin = cos.to(heads.dtype), sin.to(heads.dtype)
    first, second = heads.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class DotProductAttention(nn.Module):
    """softmax(query key / sqrt(head_dim)) value, as a module so that a probe can watch its inputs.

    `minidream.probe` hooks it and computes attention weights from the same queries and keys.
    """

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Attention of tokens (positions being read) to inputs (these and all cached before them).

        Args:
            query: shape (batch, heads, tokens, head_dim).
            key, value: shape (batch, key/value heads, inputs, head_dim). Consecutive groups of
                query heads share one key/value head.
            mask: True where a token may attend, shape (batch, 1, tokens, inputs). None: several
                tokens attend causally to one another, a single token attends to all inputs.

        Returns:
            The shape of `query`.
        """
        causal, shared = mask is None and query.shape[2] > 1, query.shape[1] != key.shape[1]
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=causal, enable_gqa=shared
        )


class Cache:
    """Keys and values of everything read so far, in buffers that are allocated once.

    Args:
        capacity: how many inputs it can hold; None is the context of the model that fills it.
    """

    def __init__(self, capacity: int | None = None):
        self.capacity, self.length = capacity, 0
        self.buffers: list[tuple[Tensor, Tensor]] = []
        # Which inputs are real, shape (batch, inputs); None as long as nothing was padded.
        self.mask: Tensor | None = None

    def __len__(self) -> int:
        return self.length

    @property
    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of every layer, each (batch, key/value heads, inputs, head_dim)."""
        end = self.length
        return [(keys[:, :, :end], values[:, :, :end]) for keys, values in self.buffers]

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Stores the keys and values of new tokens; returns those of all inputs of the layer.

        Args:
            layer: index of the layer.
            key, value: shape (batch, key/value heads, tokens, head_dim).
        """
        if layer == len(self.buffers):
            batch, heads, _, head_dim = key.shape
            shape = (batch, heads, self.capacity, head_dim)
            self.buffers.append((key.new_empty(shape), value.new_empty(shape)))
        keys, values = self.buffers[layer]
        end = self.length + key.shape[2]
        keys[:, :, self.length : end], values[:, :, self.length : end] = key, value
        return keys[:, :, :end], values[:, :, :end]


class Attention(nn.Module):
    """Causal self-attention with rotary position embeddings and grouped key/value heads."""

    def __init__(self, config: LLMConfig, layer: int):
        super().__init__()
        self.config, self.layer = config, layer
        inner = config.num_attention_heads * config.head_dim
        shared = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, inner, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, shared, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, shared, bias=False)
        self.o_proj = nn.Linear(inner, config.hidden_size, bias=False)
        self.attend = DotProductAttention()

    def forward(
        self,
        hidden: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """(batch, tokens, dim) to the same shape; `cos` and `sin` as in `rotate`."""
        split = "batch tokens (heads head_dim) -> batch heads tokens head_dim"
        head_dim = self.config.head_dim
        query = rotate(rearrange(self.q_proj(hidden), split, head_dim=head_dim), cos, sin)
        key = rotate(rearrange(self.k_proj(hidden), split, head_dim=head_dim), cos, sin)
        value = rearrange(self.v_proj(hidden), split, head_dim=head_dim)
        if cache is not None:
            key, value = cache.extend(self.layer, key, value)
        mixed = self.attend(query, key, value, mask)
        merge = "batch heads tokens head_dim -> batch tokens (heads head_dim)"
        return self.o_proj(rearrange(mixed, merge))


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
    """One LLaMA layer: attention, then feed-forward, each on normalized input, each added back."""

    def __init__(self, config: LLMConfig, layer: int):
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = SwiGLU(config)

    def forward(
        self,
        hidden: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """As `Attention.forward`: the residual stream before the layer to the one after it."""
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), cos, sin, mask, cache)
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class LLM(nn.Module):
    """A LLaMA decoder that works on embeddings.

    It takes embeddings rather than ids because dream queries and image patches have no ids:
    `embed_tokens` looks ids up, and `model.py` inserts the others.
    """

    def __init__(self, config: LLMConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            Layer(config, index) for index in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def initialize(self, generator: torch.Generator, std: float = 0.02) -> None:
        """Draws all weight matrices from N(0, std²), as the training of LLaMA starts."""
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=std, generator=generator)

    def forward(
        self, embeddings: Tensor, mask: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """Final-norm hidden states.

        Args:
            embeddings: shape (batch, tokens, dim).
            mask: shape (batch, tokens), False at padding; None without padding, or with padding
                only on the right, which real tokens never see. Positions count real tokens only.
            cache: holds what was read before; these tokens are appended to it.

        Returns:
            Shape (batch, tokens, dim), after the final norm (transformers' `hidden_states[-1]`).

        Raises:
            ValueError: if cache and tokens together exceed the context or the cache's capacity.
        """
        batch, tokens, _ = embeddings.shape
        context, before = self.config.max_position_embeddings, 0
        if cache is not None:
            cache.capacity = cache.capacity or context
            context, before = min(context, cache.capacity), len(cache)
        inputs, device = before + tokens, embeddings.device
        if inputs > context:
            raise ValueError(f"{inputs} tokens do not fit into a context of {context}")
        real = real_inputs(batch, tokens, mask, cache, device)
        if real is not None:
            positions = (real.cumsum(dim=1) - 1).clamp(min=0)[:, before:]
        else:
            positions = torch.arange(before, inputs, device=device).expand(batch, -1)
            if before and tokens > 1:  # attention without a mask cannot tell what came before
                real = torch.ones(batch, inputs, dtype=torch.bool, device=device)
        allowed = None if real is None else causal_mask(real, tokens)
        angles = rotary_angles(positions, self.config.head_dim, self.config.rope_theta)
        angles = rearrange(angles, "batch tokens pairs -> batch 1 tokens pairs")
        cos, sin = angles.cos(), angles.sin()  # once per call, not once per layer
        hidden = embeddings.to(dtype_of(self.layers))
        for layer in self.layers:
            hidden = layer(hidden, cos, sin, allowed, cache)
        if cache is not None:
            cache.length = inputs
        return self.norm(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token, shape (..., vocabulary), float32, from final-norm states."""
        return self.lm_head(hidden.to(dtype_of(self.lm_head))).float()


def real_inputs(
    batch: int, tokens: int, mask: Tensor | None, cache: Cache | None, device
) -> Tensor | None:
    """Which inputs are real, cached ones first: shape (batch, inputs); None if nothing is padded.

    The cache remembers the answer, so that a padded batch can be continued.
    """
    cached = None if cache is None else cache.mask
    if cache is None or (mask is None and cached is None):
        return mask
    if mask is None:
        mask = torch.ones(batch, tokens, dtype=torch.bool, device=device)
    if cached is None:
        cached = torch.ones(batch, len(cache), dtype=torch.bool, device=device)
    cache.mask = torch.cat([cached, mask], dim=1)
    return cache.mask


def causal_mask(real: Tensor, tokens: int) -> Tensor:
    """Which inputs the last `tokens` of a sequence may attend to.

    A token attends to itself and to everything before it, but never to padding. Padding may
    always attend to itself, so that its softmax is defined.

    Args:
        real: shape (batch, inputs), False at padding.
        tokens: how many of the last inputs attend.

    Returns:
        bool, shape (batch, 1, tokens, inputs).
    """
    inputs = real.shape[1]
    order = torch.arange(inputs, device=real.device)
    rows = rearrange(order[inputs - tokens :], "tokens -> tokens 1")
    allowed = (order <= rows) & rearrange(real, "batch inputs -> batch 1 inputs")
    return rearrange(allowed | (order == rows), "batch tokens inputs -> batch 1 tokens inputs")
