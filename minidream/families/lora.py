"""LoRA (Hu et al. 2022): training adds a low-rank update to every frozen matrix of the LLM.

Light adaptation: it reads pictures and writes text. The projector that brings pictures in learns
along with the updates. After training the updates can be merged into the matrices; unlike the
other light families, LoRA then costs nothing when the model is used.
"""

import torch
from torch import Tensor, nn

from .family import Family, FamilyPlan, base_model
from .samples import TEXT_KINDS

RANK = 14


class LoRA(nn.Module):
    """A frozen linear layer with a learned update of rank `rank`: W x + U (D x).

    U starts at 0, where the layer is unchanged.

    Args:
        linear: without bias.
        rank: of the update.
    """

    def __init__(self, linear: nn.Linear, rank: int = RANK):
        super().__init__()
        self.linear = linear
        like = {"device": linear.weight.device, "dtype": linear.weight.dtype}
        self.down = nn.Linear(linear.in_features, rank, bias=False, **like)
        self.up = nn.Linear(rank, linear.out_features, bias=False, **like)
        nn.init.zeros_(self.up.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        return self.linear(inputs) + self.up(self.down(inputs))

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One plain linear layer that computes the same."""
        weight = self.linear.weight + self.up.weight @ self.down.weight
        merged = nn.Linear(*weight.T.shape, False, weight.device, weight.dtype)
        merged.weight.copy_(weight)
        return merged


def add_lora(llm: nn.Module, rank: int = RANK) -> list[LoRA]:
    """Wraps every matrix of every layer in place, and returns the wrappers."""
    added = []
    for block, name, part in parts_of_layers(llm):
        if isinstance(part, nn.Linear):
            added.append(LoRA(part, rank))
            setattr(block, name, added[-1])
    return added


def merge_lora(llm: nn.Module) -> None:
    """Replaces every wrapper by one plain matrix that holds its update, in place."""
    for block, name, part in parts_of_layers(llm):
        if isinstance(part, LoRA):
            setattr(block, name, part.merged())


def parts_of_layers(llm: nn.Module) -> list[tuple[nn.Module, str, nn.Module]]:
    """(block, name, part) for the parts of all attention and feed-forward blocks."""
    blocks = [block for layer in llm.layers for block in (layer.self_attn, layer.mlp)]
    return [(block, name, part) for block in blocks for name, part in block.named_children()]


def lora(plan: FamilyPlan) -> Family:
    """Trains the low-rank updates and the projector."""
    model = base_model()
    trained = [model.vision.projector]
    for wrapper in add_lora(model.llm):
        trained += [wrapper.down, wrapper.up]
    return Family("lora", model, plan.recipe(2e-3), TEXT_KINDS, trained)
