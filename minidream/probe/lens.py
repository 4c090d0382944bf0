"""Lens: the picture that the queries would give if the language model ended after a certain layer.

The logit lens (nostalgebraist 2020) reads words from inner layers through the model's own output
layer. Here, pictures are read through the final norm, the projector and the U-Net.
"""

import torch
from torch import Tensor

from .residual_stream import query_stream


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
