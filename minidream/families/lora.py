"""LoRA (Hu et al. 2022): what training adds to a frozen matrix has low rank, and can be merged into it afterwards.

Beside it the projector learns, through which pictures come in.
"""

import torch
from torch import Tensor, nn

from .family import Family, FamilyPlan, base_model
from .samples import TEXT_KINDS

RANK = 14
MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoRA(nn.Module):
    """A frozen linear layer and a learned detour through `rank` numbers: W x + U (D x). U starts at 0, so nothing changes at first.

    Args:
        linear: without bias.
        rank: of what is added.
    """

    def __init__(self, linear: nn.Linear, rank: int = RANK):
        super().__init__()
        self.linear = linear
        self.down = nn.Linear(linear.in_features, rank, bias=False)
        self.up = nn.Linear(rank, linear.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        return self.linear(inputs) + self.up(self.down(inputs))

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One plain linear layer that does the same: nothing is slower when the training is over."""
        merged = nn.Linear(self.linear.in_features, self.linear.out_features, bias=False)
        merged.weight.copy_(self.linear.weight + self.up.weight @ self.down.weight)
        return merged.to(self.linear.weight)


def wrap(llm: nn.Module, rank: int = RANK) -> list[LoRA]:
    """Puts a LoRA around every matrix of every layer, in place."""
    added = []
    for layer in llm.layers:
        for box in (layer.self_attn, layer.mlp):
            for name in MATRICES:
                if hasattr(box, name):
                    added.append(LoRA(getattr(box, name), rank))
                    setattr(box, name, added[-1])
    return added


def merge(llm: nn.Module) -> None:
    """Takes every LoRA out again, in place, its detour merged into the matrix."""
    for layer in llm.layers:
        for box in (layer.self_attn, layer.mlp):
            for name, part in list(box.named_children()):
                if isinstance(part, LoRA):
                    setattr(box, name, part.merged())


def lora(plan: FamilyPlan) -> Family:
    """The detours and the projector learn."""
    model = base_model()
    added = wrap(model.llm)
    return Family(
        "lora",
        model,
        plan.recipe(2e-3),
        TEXT_KINDS,
        [model.vision.projector, *(part for detour in added for part in (detour.down, detour.up))],
    )
