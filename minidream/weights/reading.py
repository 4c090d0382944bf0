"""Reading a checkpoint: scan it, refuse what does not fit, then map or convert each tensor."""

import ctypes
import math
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from torch import Tensor

from ..model import DreamLLM
from .building import EmptyWeights, build, single_precision
from .layout import OLD_VAE_ATTENTION, DreamQueriesModule, files_of
from .quantizing import check_matrices, is_quantized, packed_bytes
from .scanning import StoredPart, StoredTensor, can_be_mapped, map_tensors, scan_folder
from .tokenizer_files import read_tokenizer
from .variants import read_config

# The component configs of CLIP ViT-L/14 and Stable Diffusion 2.1-base.
SHIPPED_CONFIGS = Path(__file__).parents[1] / "configs" / "dreamllm-7b"
# After converting this many bytes of a file, it is closed and mapped again: pages of a mapped file
# that were read count as resident memory until the file is closed.
BYTES_PER_MAPPING = 2**28
# What models compute in. Weights in other dtypes, of integers or of eight bits, were quantized.
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


# --------------------------------------------------------------------------------------------------
# Checks before anything is read


def check_fit(part: StoredPart, shapes: dict[str, tuple[int, ...]], sources: str) -> None:
    """Checks that the files hold exactly the tensors that a model needs, in the right shapes.

    Args:
        part: what the files hold.
        shapes: what the model needs, by official name.
        sources: the files that the model's sizes come from, for the error.

    Raises:
        ValueError: naming up to five missing, extra and misshapen tensors, with both shapes, and
            up to five in a dtype that models do not compute in.
    """

    def described(name: str) -> str:
        stored = part.tensors[name]
        shown = name if stored.name == name else f"{stored.name} (read as {name})"
        return shown if stored.path == part.path else f"{shown} in {stored.path.name}"

    faults = {
        "missing": [name for name in shapes if name not in part.tensors],
        "extra": [described(name) for name in part.tensors if name not in shapes],
        "misshapen": [
            f"{described(name)} {part.tensors[name].shape} instead of {shape}"
            for name, shape in shapes.items()
            if name in part.tensors and not same_shape(part.tensors[name], shape)
        ],
        "of another dtype than floating-point weights have": [
            f"{described(name)} {part.tensors[name].dtype}"
            for name in shapes
            if name in part.tensors and part.tensors[name].dtype not in DTYPES
        ],
    }
    listed = [
        f"{len(found)} {kind}: {', '.join(sorted(found)[:5])}{' …' if len(found) > 5 else ''}"
        for kind, found in faults.items()
        if found
    ]
    if listed:
        raise ValueError(
            f"{part.path} does not fit the model. Tensors {'; '.join(listed)}. The model's sizes "
            f"are those of {sources}"
        )


def same_shape(stored: StoredTensor, shape: tuple[int, ...]) -> bool:
    """Whether a stored tensor has the shape that the model needs.

    A matrix of the VAE's attention may be stored as a 1x1 convolution under its old name.
    """
    old = any(f".{name}." in stored.name for name in OLD_VAE_ATTENTION)
    return stored.shape == shape or (old and stored.shape == (*shape, 1, 1))


def bytes_needed(
    parts: dict[str, StoredPart],
    dtype: torch.dtype | None,
    quantize: str | None,
    device: str = "cpu",
) -> int:
    """The bytes that the tensors of a checkpoint take once they are loaded."""
    total = 0
    for part in parts.values():
        for name, stored in part.tensors.items():
            itemsize = (dtype or stored.dtype).itemsize
            if quantize and is_quantized(name, stored.shape):
                total += packed_bytes(stored.shape, quantize, itemsize, device)
            else:
                total += math.prod(stored.shape) * itemsize
    return total


def check_memory(what: str, needed: int, device: torch.device) -> None:
    """MemoryError with both numbers if fewer than `needed` bytes are free on a device."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = psutil.virtual_memory().available
    if needed > free:
        raise MemoryError(
            f"{what} take {needed / 1e9:.1f} GB of memory on {device}, and {free / 1e9:.1f} GB are "
            'free. dtype=torch.bfloat16 halves what float32 takes; quantize="int8" halves that '
            'again for the language model, and quantize="int4" once more'
        )


# --------------------------------------------------------------------------------------------------
# Reading tensors


def load_tensors(
    tensors: dict[str, StoredTensor],
    device: torch.device,
    dtype: torch.dtype | None,
    quantized: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, Tensor]:
    """Stored tensors on a device and in a dtype, by the same names.

    A tensor that needs neither conversion nor a move stays mapped from its file; all others are
    converted and moved one by one. A file that cannot be mapped is read whole, once.

    Args:
        tensors: by official name.
        device: where they go.
        dtype: None keeps the stored ones.
        quantized: packs a matrix; None quantizes nothing. No more than one matrix is unpacked at a
            time.
    """
    loaded: dict[str, Tensor] = {}

    def is_packed(name: str) -> bool:
        return quantized is not None and is_quantized(name, tensors[name].shape)

    # A tensor that stays mapped keeps its whole mapping open, and with it all pages read there. So
    # what is packed comes first, and the rest from a mapping of which nothing was read.
    order = sorted(tensors, key=is_packed, reverse=True)
    for path in sorted({stored.path for stored in tensors.values()}):
        mapped, converted, again = map_tensors(path), 0, can_be_mapped(path)
        was_packed = False
        for name in order:
            stored = tensors[name]
            if stored.path != path:
                continue
            full = converted > BYTES_PER_MAPPING or (was_packed and not is_packed(name))
            if again and full:
                mapped, converted = map_tensors(path), 0
            was_packed = is_packed(name)
            # Taken out, so that a tensor that was read is freed once it is converted.
            tensor = mapped.pop(stored.name)
            if was_packed:
                loaded[name] = quantized(tensor.to(dtype=dtype))
                converted += tensor.nbytes
                release_freed()
                continue
            loaded[name] = tensor.to(device=device, dtype=dtype)
            if loaded[name].data_ptr() != tensor.data_ptr():
                converted += tensor.nbytes
    return loaded


def release_freed() -> None:
    """Gives memory that was freed back to the system, where the C library (glibc) can do that.

    What is computed while a matrix is packed is freed again, but what was packed lies between the
    holes, so that they are neither given back nor large enough for the next matrix.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def in_shape(tensor: Tensor, shape: torch.Size) -> Tensor:
    """A tensor in a shape with as many numbers; one that is quantized has it already."""
    return tensor if tensor.shape == shape else tensor.reshape(shape)


def read_folder(
    folder: Path,
    device: torch.device,
    dtype: torch.dtype | None,
    component_configs: Path | None = None,
    quantize: str | None = None,
    quantized: Callable[[Tensor], Tensor] | None = None,
) -> DreamLLM:
    """A DreamLLM from a folder in the official layout.

    Arguments and errors are those of `load`; `quantized` is the quantizer of that form.
    """
    config = read_config(folder / "config.json")
    components = component_configs or folder / "component_configs"
    if component_configs is None and not components.exists():
        components = SHIPPED_CONFIGS
    with single_precision(), EmptyWeights():
        model = build(folder / "config.json", config, components, read_tokenizer(folder, config))
    parts, files = scan_folder(folder), files_of(model)
    for stem, (module, names) in files.items():
        shapes = {names[name]: tuple(value.shape) for name, value in module.state_dict().items()}
        check_fit(parts[stem], shapes, f"{folder / 'config.json'} and {components}")
        if quantize:
            stored = parts[stem].tensors
            dtypes = {name: dtype or stored[name].dtype for name in shapes}
            check_matrices(quantize, shapes, dtypes, device)
    needed = bytes_needed(parts, dtype, quantize, device.type)
    check_memory(f"the weights in {folder}", needed, device)
    for stem, (module, names) in files.items():
        tensors = load_tensors(parts[stem].tensors, device, dtype, quantized)
        content = {
            name: in_shape(tensors[names[name]], value.shape)
            for name, value in module.state_dict().items()
        }
        module.load_state_dict(content, strict=True, assign=True)
        if isinstance(module, DreamQueriesModule):
            model.dream_queries = module.dream_queries
    return model
