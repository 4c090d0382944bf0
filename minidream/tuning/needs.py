"""The bytes that a step of fine-tuning needs, counted before it starts.

The language model and the U-Net are run once on the meta device, where tensors have a size but no
memory, and what they keep for the backward pass is counted. At the published sizes this gives what
`weights/memory.py` says of a LoRA. As there, what kernels need for themselves and what torch's
allocator holds back is not counted; neither is what the frozen networks need for a moment.
"""

from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..images import dtype_of
from ..model import DreamLLM
from .choices import trained_of


@dataclass(frozen=True)
class Needs:
    """Bytes on one device.

    weights: all parameters.
    learning: gradients, two moments of AdamW and the moving average of what learns.
    kept: for the backward pass.
    logits: scores of the next token, their softmax and their gradient.
    """

    weights: int
    learning: int
    kept: int
    logits: int

    @property
    def all(self) -> int:
        """Their sum."""
        return self.weights + self.learning + self.kept + self.logits

    def __str__(self) -> str:
        return (
            f"memory: {gigabytes(self.all)} = weights {gigabytes(self.weights)} + gradients and "
            f"optimizer {gigabytes(self.learning)} + kept for the backward pass "
            f"{gigabytes(self.kept)} + logits {gigabytes(self.logits)}"
        )


def gigabytes(size: float) -> str:
    """Bytes in words."""
    return f"{size / 1e9:.2f} GB"


def needs(
    model: DreamLLM,
    rows: int,
    positions: int,
    pictures: int,
    share: int = 1,
    checkpointing: bool = False,
) -> Needs:
    """What a step needs, at most.

    Args:
        model: in which is chosen what learns; on any device.
        rows: documents at once on this device.
        positions: of the longest.
        pictures: to be painted, in each.
        share: processes that share out the weights.
        checkpointing: whether each layer of the language model is computed again in the backward
            pass, and only its input is kept.
    """
    config = model.llm.config
    trained = sum(parameter.numel() for parameter in trained_of(model))
    layer = kept_by_layer(model, positions)
    kept = config.num_hidden_layers * layer
    if checkpointing:
        width = torch.empty((), dtype=dtype_of(model.llm.layers)).element_size()
        kept = layer + config.num_hidden_layers * positions * config.hidden_size * width
    painted = kept_by_unet(model) * pictures if pictures else 0
    return Needs(
        weights=weight_bytes(model, share),
        learning=trained * 4 * 4 // share,
        kept=rows * (kept + painted),
        logits=rows * 3 * positions * config.vocab_size * 4,
    )


def weight_bytes(model: DreamLLM, share: int = 1) -> int:
    """The bytes of the weights on one device.

    Where `share` processes share them out (`trainer/sharding.py`), two layers at a time are whole,
    one in use and one on its way; the vision tower and the VAE always are; and so is the rest,
    beside each process's part of it, in the forward pass.
    """

    def size(*modules: nn.Module) -> int:
        return sum(parameter.nbytes for module in modules for parameter in module.parameters())

    everything, layers = size(model), size(model.llm.layers)
    if share == 1:
        return everything
    kept = size(model.vision.tower, model.decoder.vae)
    rest = everything - layers - kept
    return layers // share + 2 * size(model.llm.layers[0]) + kept + rest + rest // share


def kept_by_layer(model: DreamLLM, positions: int) -> int:
    """The bytes that the first layer of the language model keeps of one document."""
    layer, config = model.llm.layers[0], model.llm.config
    pairs = config.head_dim // 2
    hidden = empty(1, positions, config.hidden_size, dtype=dtype_of(layer), gradient=True)
    angles = empty(1, 1, positions, pairs)
    return kept_for_backward(layer, hidden, angles, angles)


def kept_by_unet(model: DreamLLM) -> int:
    """The bytes that the U-Net keeps of one picture."""
    decoder = model.decoder
    unet, dtype, (channels, *size) = decoder.unet, dtype_of(decoder.unet), decoder.latent_shape
    channels += 2 * decoder.has_coordinates
    times = torch.empty(1, dtype=torch.long, device="meta")
    width = unet.config.cross_attention_dim
    condition = empty(1, model.queries, width, dtype=dtype, gradient=True)
    return kept_for_backward(unet, empty(1, channels, *size, dtype=dtype), times, condition)


# --------------------------------------------------------------------------------------------------
# Counting


class Flash(torch.autograd.Function):
    """Attention that keeps its inputs and its result, as fused kernels do, and no weights."""

    @staticmethod
    def forward(context, query, key, value):
        """A result without values."""
        out = torch.empty_like(query)
        context.save_for_backward(query, key, value, out)
        return out


class Fused(TorchFunctionMode):
    """In a `with` block attention is `Flash`: on the meta device, torch would keep all weights."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """The call itself, or `Flash`."""
        if func is F.scaled_dot_product_attention:
            return Flash.apply(*args[:3])
        return func(*args, **(kwargs or {}))


def empty(*shape: int, dtype=torch.float32, gradient: bool = False) -> Tensor:
    """A tensor without values."""
    return torch.empty(shape, device="meta", dtype=dtype, requires_grad=gradient)


def kept_for_backward(module: nn.Module, *inputs: Tensor) -> int:
    """The bytes that a call of a module keeps for the backward pass, without its weights.

    Args:
        module: on any device; it is not run there, and does not change.
        inputs: on the meta device.
    """
    weights = {
        name: empty(*tensor.shape, dtype=tensor.dtype, gradient=tensor.requires_grad)
        if tensor.is_floating_point()
        else tensor.to("meta")
        for name, tensor in (*module.named_parameters(), *module.named_buffers())
    }
    own = {tensor.untyped_storage()._cdata for tensor in weights.values()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = tensor  # the tensor, so that its place is not used again
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with Fused(), torch.enable_grad(), hooks:
        result = functional_call(module, weights, inputs)  # noqa: F841  (it keeps what is kept)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


# --------------------------------------------------------------------------------------------------
# What is there


def free_bytes(device: torch.device) -> int:
    """The free memory of a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def fitting(
    counted: Callable[..., Needs], device: torch.device, checkpointing: bool, there: bool = True
) -> tuple[Needs, bool]:
    """What a step needs, and whether layers are computed again so that it fits.

    Args:
        counted: gives the needs, with or without `checkpointing`.
        device: where the model learns.
        checkpointing: whether the user asked for it. On CUDA it is also done if nothing else fits.
        there: whether the weights are on the device already.

    Raises:
        MemoryError: if it does not fit (both numbers).
    """
    for attempt in (checkpointing, True):
        found = counted(checkpointing=attempt)
        missing = found.all - found.weights * there - free_bytes(device)
        if missing <= 0 or device.type != "cuda":
            break
    if missing > 0:
        raise MemoryError(
            f"{found}; {gigabytes(free_bytes(device))} are free on {device}"
            f"{', beside the weights' * there}: choose a smaller --batch, --checkpointing, or "
            "less to --learn"
        )
    return found, attempt
