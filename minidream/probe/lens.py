"""Lens: what the model would say, or paint, if the language model ended after a certain layer.

The logit lens (nostalgebraist 2020) reads words from inner layers through the model's own final
norm and LM head. In the same way, pictures are read through final norm, projector and U-Net.
"""

import torch
from torch import Tensor

from .hooks import run_with_cache
from .residual_stream import query_stream


@torch.inference_mode(False)
@torch.no_grad()
def logit_lens(model, prompt, positions=None) -> Tensor:
    """The logits of the next token after each layer.

        logits = probe.logit_lens(model, "a red star")
        [model.tokenizer.label(token) for token in logits.argmax(dim=-1)[:, -1].tolist()]

    Args:
        model: a DreamLLM.
        prompt: str or Document, read as by `encode`: it ends in dream queries.
        positions: as in `hooks`; None is all.

    Returns:
        Shape (layers, positions, vocabulary), float32. The last layer's are the model's own.

    Raises:
        TypeError, ValueError: as `hooks` and `encode`.
    """
    cache = run_with_cache(model, [prompt], "llm.*.resid_post", positions)
    return model.llm.logits(model.llm.norm(torch.cat(list(cache.values()))))


@torch.inference_mode(False)
@torch.no_grad()
def lens_states(model, prompts) -> Tensor:
    """What `encode` would return after each layer: the queries' residual stream, normed.

    Returns:
        Shape (layers, batch, queries, hidden); the last layer's is what `encode` returns.
    """
    return model.llm.norm(query_stream(model, prompts))


def lens(model, prompt, seed: int = 0, **options) -> list:
    """A picture after each layer, all from the same noise; the last is what `dream` paints.

    Args:
        model: a DreamLLM.
        prompt: str or Document.
        seed: of the noise.
        options: of `DreamLLM.paint`.

    Returns:
        As many pictures as the language model has layers.
    """
    # One by one, since the pictures of a batch would have different seeds.
    return [model.paint(states, seed, **options)[0] for states in lens_states(model, [prompt])]
