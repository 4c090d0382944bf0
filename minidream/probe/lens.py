"""Lens: the picture that the queries would give if the language model ended after each of its layers.

The logit lens (nostalgebraist 2020) reads words from inner layers through the model's own last layer; here pictures are read,
through the final norm, the projector and the U-Net.
"""

import torch
from torch import Tensor

from .residual_stream import query_stream


@torch.no_grad()
def lens_states(model, prompts) -> Tensor:
    """What `encode` would give after each layer: the residual stream at the queries through the final norm.

    Returns:
        Shape (layers, batch, queries, hidden); the last layer is what `encode` gives.
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
    # One by one, since pictures of one batch have seeds of their own.
    return [model.paint(states, seed, **options)[0] for states in lens_states(model, [prompt])]
