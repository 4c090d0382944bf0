"""The points of a model at which probes record and act, by name; names follow TransformerLens.

| name | what it holds | axes |
|---|---|---|
| `llm.embed` | what enters the first layer | batch tokens dim |
| `llm.3.resid_pre`, `llm.3.resid_post` | the residual stream before and after layer 3 | the same |
| `llm.3.attn_out`, `llm.3.mlp_out` | what its attention and its MLP add to the stream | the same |
| `llm.3.resid_mid` | the stream between the two | the same |
| `llm.3.q` | queries of each head, rotated | batch heads tokens head_dim |
| `llm.3.k`, `llm.3.v` | keys (rotated) and values | batch heads inputs head_dim |
| `llm.3.pattern` | attention after softmax | batch heads tokens inputs |
| `llm.3.z` | what each head has gathered | batch heads tokens head_dim |
| `llm.final` | the stream after the final norm | batch tokens dim |
| `queries.3`, `queries` | `llm.3.resid_post`, `llm.final` at dream queries | batch queries dim |
| `clip.3.resid_pre`, ... | as in the language model; the class token is first | batch patches dim |
| `patches` | what the language model gets of a picture | batch patches dim |
| `unet.3.cross.q`, `.k`, `.v`, `.pattern`, `.z` | from latent cells to dream queries | as above |
| `unet.3.self.q`, ... | from latent cells to latent cells | as above |
| `unet.3.cross.out`, `unet.3.self.out` | what they add to the cells | batch cells dim |

Tokens are those of one pass, and inputs are these and all that a cache holds. Layers of the U-Net
are counted in the order in which they run. A point of the U-Net shows the conditional rows alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn

from .attention import forget_weights, visit_attention
from .watch import main_output, named_modules

HEADS, PATTERN = "batch heads {} head_dim", "batch heads {} {}"


@dataclass(frozen=True)
class Point:
    """Where a probe records or acts.

    name: as in the table above.
    axes: of its value, by name.
    hooks: called with a visitor; returns what sets its hooks, as `hooked` takes it. The visitor is
        called with each value, and returns another one to go on with, or None. Of a pattern, it
        is called as `visitor.attention`.
    dim: the size of the last axis; of a pattern, that of a head.
    size: how many positions its value has; None if this differs from pass to pass.
    heads: how many heads its value has; None if it is not divided into heads.
    """

    name: str
    axes: str
    hooks: Callable[[Callable], list[tuple[Callable, Callable]]]
    dim: int
    size: int | None = None
    heads: int | None = None

    @property
    def dimensions(self) -> int:
        """How many axes its value has."""
        return len(self.axes.split())

    @property
    def part(self) -> str:
        """The part of the model that it belongs to: "llm", "queries", "clip" and so on."""
        return self.name.split(".")[0]

    @property
    def position_axis(self) -> int:
        """The index of the axis along which positions are counted."""
        return 2 if "heads" in self.axes.split() else 1


# --------------------------------------------------------------------------------------------------
# How a visitor gets at what a module takes and returns


def outputs(module: nn.Module, visit) -> list:
    """Visits what a module returns; of a tuple, the first element."""

    def hook(module, inputs, output):
        after = visit(main_output("the module", output))
        if after is None or isinstance(output, Tensor):
            return after
        return after, *output[1:]

    return [(module.register_forward_hook, hook)]


def argument(module: nn.Module, visit, index: int = 0) -> list:
    """Visits one of the positional arguments of a module."""

    def hook(module, inputs: tuple):
        after = visit(inputs[index])
        return None if after is None else (*inputs[:index], after, *inputs[index + 1 :])

    return [(module.register_forward_pre_hook, hook)]


def layer_outputs(norm: nn.Module, mlp: nn.Module, visit) -> list:
    """Visits the residual stream after a layer, while the layer runs: before the MLP + its output.

    transformers keeps what a layer has computed, without what hooks on the layer made of it.
    """
    stream = None

    def before_mlp(module, inputs: tuple):
        nonlocal stream
        (stream,) = inputs

    def after_mlp(module, inputs, output: Tensor):
        after = visit(stream + output)
        return None if after is None else after - stream

    return [
        (norm.register_forward_pre_hook, before_mlp),
        (mlp.register_forward_hook, after_mlp),
    ]


def in_heads(set_hooks: Callable, heads: int, visit) -> list:
    """Visits (batch, tokens, heads * head_dim) as (batch, heads, tokens, head_dim)."""

    def visit_heads(value: Tensor):
        split = "batch tokens (heads head_dim) -> batch heads tokens head_dim"
        after = visit(rearrange(value, split, heads=heads))
        merge = "batch heads tokens head_dim -> batch tokens (heads head_dim)"
        return None if after is None else rearrange(after, merge)

    return set_hooks(visit_heads)


def at_the_end(set_hooks: Callable, count: int, visit) -> list:
    """Visits the last positions alone: prompts are padded on the left, and end in dream queries."""

    def visit_last(value: Tensor):
        after = visit(value[:, -count:])
        return None if after is None else torch.cat([value[:, :-count], after], dim=1)

    return set_hooks(visit_last)


def attended(attend: nn.Module, visit) -> list:
    """Visits the attention of `llm.DotProductAttention`."""

    def begin(module, inputs: tuple):
        forget_weights(attend)

    def hook(module, inputs: tuple, output: Tensor):
        return visit_attention(attend, visit, *inputs, output)

    return [(attend.register_forward_pre_hook, begin), (attend.register_forward_hook, hook)]


def attended_between(projections: dict[str, nn.Module], out: nn.Module, heads: int, visit) -> list:
    """Visits an attention whose queries, keys and values are what linear layers return.

    Args:
        projections: the layers that return queries, keys and values, by "q", "k" and "v".
        out: the layer that takes what the heads have gathered.
        heads: how many there are.
        visit: the visitor.
    """
    held = {}

    def keep(name: str, value: Tensor) -> None:
        forget_weights(out)
        held[name] = value

    hooks = []
    for name, module in projections.items():
        hooks += in_heads(partial(outputs, module), heads, partial(keep, name))

    def after(gathered: Tensor):
        query, key, value = (held.pop(name) for name in "qkv")
        return visit_attention(out, visit, query, key, value, None, gathered)

    return hooks + in_heads(partial(argument, out), heads, after)


# --------------------------------------------------------------------------------------------------
# All points of a model


def points(model) -> dict[str, Point]:
    """All points of a DreamLLM, by name; see the table at the top of this file."""
    found = [*points_of_llm(model), *points_of_clip(model), *points_of_unet(model)]
    return {point.name: point for point in found}


def points_of_llm(model) -> list[Point]:
    """The points of the language model, and of the dream queries in it."""
    llm, count, stream = model.llm, model.queries, "batch tokens dim"
    dim, found = model.dream_queries.shape[-1], []
    found.append(Point("llm.embed", stream, partial(argument, llm.layers[0]), dim))
    for index, layer in enumerate(llm.layers):
        name, attention, attend = f"llm.{index}", layer.self_attn, layer.self_attn.attend
        config = attention.config
        heads, shared = config.num_attention_heads, config.num_key_value_heads
        of_heads = dict(dim=config.head_dim, heads=heads)
        of_keys = of_heads | dict(heads=shared)
        queries, keys, values = (partial(argument, attend, index=each) for each in range(3))
        last_outputs = partial(at_the_end, partial(outputs, layer), count)
        found += [
            Point(f"{name}.resid_pre", stream, partial(argument, layer), dim),
            Point(f"{name}.q", HEADS.format("tokens"), queries, **of_heads),
            Point(f"{name}.k", HEADS.format("inputs"), keys, **of_keys),
            Point(f"{name}.v", HEADS.format("inputs"), values, **of_keys),
            Point(
                f"{name}.pattern",
                PATTERN.format("tokens", "inputs"),
                partial(attended, attend),
                **of_heads,
            ),
            Point(f"{name}.z", HEADS.format("tokens"), partial(outputs, attend), **of_heads),
            Point(f"{name}.attn_out", stream, partial(outputs, attention), dim),
            Point(
                f"{name}.resid_mid", stream, partial(argument, layer.post_attention_layernorm), dim
            ),
            Point(f"{name}.mlp_out", stream, partial(outputs, layer.mlp), dim),
            Point(f"{name}.resid_post", stream, partial(outputs, layer), dim),
            Point(f"queries.{index}", "batch queries dim", last_outputs, dim, size=count),
        ]
    states = partial(outputs, model.query_states)
    return [
        *found,
        Point("llm.final", stream, partial(outputs, llm.norm), dim),
        Point("queries", "batch queries dim", states, dim, size=count),
    ]


def points_of_clip(model) -> list[Point]:
    """The points of the vision tower, up to the layer that is read, and of the projector."""
    vision, found, stream = model.vision, [], "batch patches dim"
    layers = vision.tower.encoder.layers
    # `select_layer` counts the embeddings before the first layer, too.
    read = range(len(layers) + 1)[vision.select_layer]
    of_stream = dict(dim=vision.tower.config.hidden_size, size=vision.patches + 1)
    for index, layer in enumerate(layers[:read]):
        attention, name = layer.self_attn, f"clip.{index}"
        linear = {"q": attention.q_proj, "k": attention.k_proj, "v": attention.v_proj}
        after = partial(layer_outputs, layer.layer_norm2, layer.mlp)
        found += [
            Point(f"{name}.resid_pre", stream, partial(argument, layer.layer_norm1), **of_stream),
            *attention_points(
                name,
                linear,
                attention.out_proj,
                ["patches"] * 3,
                attention.num_heads,
                vision.patches + 1,
            ),
            Point(f"{name}.attn_out", stream, partial(outputs, attention), **of_stream),
            Point(f"{name}.resid_mid", stream, partial(argument, layer.layer_norm2), **of_stream),
            Point(f"{name}.mlp_out", stream, partial(outputs, layer.mlp), **of_stream),
            Point(f"{name}.resid_post", stream, after, **of_stream),
        ]
    last = vision.projector if vision.post_layernorm is None else vision.post_layernorm
    dim = model.dream_queries.shape[-1]
    return [*found, Point("patches", stream, partial(outputs, last), dim, size=vision.patches)]


def points_of_unet(model) -> list[Point]:
    """The points of the U-Net's layers of attention."""
    modules, found = named_modules(model.decoder.unet), []
    running = ("down_blocks", "mid_block", "up_blocks")
    layers = [name.removesuffix(".attn1") for name in modules if name.endswith(".attn1")]
    layers.sort(key=lambda name: running.index(name.split(".")[0]))  # keeps the order within each
    for index, layer in enumerate(layers):
        for kind, module, keys in (("self", "attn1", "cells"), ("cross", "attn2", "queries")):
            attention, name = modules.get(f"{layer}.{module}"), f"unet.{index}.{kind}"
            if attention is None:
                continue
            linear = {"q": attention.to_q, "k": attention.to_k, "v": attention.to_v}
            out, axes = attention.to_out[0], ["cells", keys, keys]
            found += attention_points(name, linear, out, axes, attention.heads)
            dim = out.out_features
            found.append(Point(f"{name}.out", "batch cells dim", partial(outputs, attention), dim))
    return found


def attention_points(
    name: str,
    linear: dict[str, nn.Module],
    out: nn.Module,
    axes: list[str],
    heads: int,
    size: int | None = None,
) -> list[Point]:
    """The points of an attention between linear layers; arguments as of `attended_between`."""
    sizes = dict(dim=out.in_features // heads, heads=heads, size=size)
    split = [partial(in_heads, partial(outputs, module), heads) for module in linear.values()]
    between = partial(attended_between, linear, out, heads)
    gathered = partial(in_heads, partial(argument, out), heads)
    return [
        *(
            Point(f"{name}.{what}", HEADS.format(axis), hooks, **sizes)
            for what, axis, hooks in zip(linear, axes, split)
        ),
        Point(f"{name}.pattern", PATTERN.format(*axes[:2]), between, **sizes),
        Point(f"{name}.z", HEADS.format(axes[0]), gathered, **sizes),
    ]
