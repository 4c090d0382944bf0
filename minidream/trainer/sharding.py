"""Weights that several processes share out (FSDP2), and that checkpoints hold as a whole.

Each process keeps a part of every parameter, of its gradient and of the optimizer's state. A layer
is gathered when it is used, and let go afterwards. Source: Zhao et al. 2023, arXiv 2304.11277;
torch's `fully_shard`. This is done where accelerate's config asks for FSDP (see
`configs/accelerate/fsdp2.yaml`), and by torch itself, so that it works on CPUs, too.
"""

import os
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def is_wanted() -> bool:
    """Whether accelerate's config asks for FSDP, and there are several processes.

    Raises:
        ValueError: for version 1.
    """
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if asked and (version := os.environ.get("FSDP_VERSION", "1")) != "2":
        raise ValueError(
            f"the config of accelerate asks for FSDP of version {version}; version 2 is done here "
            "(fsdp_version: 2)"
        )
    return asked and int(os.environ.get("WORLD_SIZE", 1)) > 1


def shard(stage: nn.Module, device: torch.device) -> None:
    """Shares out the parameters of a stage among all processes, in place.

    Args:
        stage: with `shards()`: modules that are gathered one at a time, which all processes use
            equally often and in one order; and modules that every process keeps whole. Everything
            else is gathered for the whole forward pass.
        device: of this process.

    Raises:
        TypeError: for a stage without it.
    """
    if not hasattr(stage, "shards"):
        raise TypeError(
            f"the weights of stage {stage.name} cannot be shared out: run it on one GPU"
        )
    units, kept = stage.shards()
    for module in kept:
        module.to(device)
    whole = {parameter for module in kept for parameter in module.parameters()}
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for unit in units:
        fully_shard(unit, mesh=mesh)
    fully_shard(stage, mesh=mesh, ignored_params=whole)


def whole(content: Any, keep: bool = True) -> Any:
    """The same with every shared tensor put together, on the CPU. All processes have to call it.

    Args:
        content: a tensor, or dicts, lists and tuples with tensors in them.
        keep: False on a process that does not need the result, which has None for each tensor:
            for the 7B, it would be a hundred gigabytes.
    """
    if isinstance(content, DTensor):
        put_together = content.full_tensor()
        return put_together.cpu() if keep else None
    if isinstance(content, dict):
        return {key: whole(value, keep) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return type(content)(whole(value, keep) for value in content)
    return content


@torch.no_grad()
def clip(trained: list[nn.Parameter], most: float) -> Tensor:
    """Scales the gradients of shared parameters so that their norm is at most `most`.

    As `torch.nn.utils.clip_grad_norm_`, which takes minutes to find out how hundreds of shared
    tensors are added up.

    Returns:
        The norm before, over all processes.
    """
    parts = [each.grad.to_local() for each in trained if each.grad is not None]
    square = torch.stack([part.float().square().sum() for part in parts]).sum()
    torch.distributed.all_reduce(square)
    norm = square.sqrt()
    factor = (most / (norm + 1e-6)).clamp(max=1.0)
    for part in parts:
        part.mul_(factor)
    return norm


def like(value: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor, shared out as a parameter of its shape is."""
    if isinstance(parameter, DTensor) and value.shape == parameter.shape:
        value = value.to(parameter.device)
        return distribute_tensor(value, parameter.device_mesh, parameter.placements)
    return value


def shared_out(saved: dict, trained: list[nn.Parameter]) -> dict:
    """A checkpoint, with its tensors shared out as the parameters that they belong to."""

    def each(values: list[Tensor]) -> list[Tensor]:
        return [like(*pair) for pair in zip(values, trained, strict=True)]

    moments = {
        index: {name: like(value, trained[index]) for name, value in state.items()}
        for index, state in saved["optimizer"]["state"].items()
    }
    shadows = each(saved["average"]["shadow_params"])
    return {
        **saved,
        "trained": each(saved["trained"]),
        "optimizer": {**saved["optimizer"], "state": moments},
        "average": {**saved["average"], "shadow_params": shadows},
    }
