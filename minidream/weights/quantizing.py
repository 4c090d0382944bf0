"""Matrices of the language model in eight or four bits: each is packed as soon as it is read.

Only the matrices in the layers of the language model are quantized, by torchao, and only as they
are stored: before a matrix multiplies, it is unpacked again, so activations keep their dtype.

| form | what a matrix becomes |
|---|---|
| int8 | one byte per number, one scale per row |
| int4 | half a byte per number, one scale and one zero point per group of numbers in a row |
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..llm import LLM

FORMS = ("int8", "int4")
# How many neighbours in a row share a scale and a zero point in int4: the first of these that
# divides the row. Larger groups take less memory, smaller ones are more exact.
GROUPS = (128, 64, 32)
# torchao's kernel for CPUs packs this many rows at a time, and its kernel for CUDA this many.
ROWS_TOGETHER = {"cpu": 16, "cuda": 8}
# In CUDA's layout of int4, the rows of a matrix are filled up to a multiple of this.
CUDA_COLUMNS = 1024


def check_form(quantize: str | None) -> None:
    """ValueError, which lists what exists, unless `quantize` is None or one of `FORMS`."""
    if quantize is not None and not (isinstance(quantize, str) and quantize in FORMS):
        raise ValueError(f'quantize is None, "int8" or "int4", not {quantize!r}')


def is_quantized(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor with this official name is quantized: the matrices of the LLM's layers."""
    return name.startswith("model.layers.") and len(shape) == 2


def group_size(shape: tuple[int, int], device: str) -> int:
    """The size of the groups of a matrix in int4.

    Args:
        shape: (rows, columns).
        device: "cpu" or "cuda".

    Raises:
        ValueError: if the matrix cannot be packed.
    """
    rows, columns = shape
    sizes = [size for size in GROUPS if columns % size == 0]
    if not sizes or rows % ROWS_TOGETHER[device]:
        raise ValueError(
            f"it has {rows} rows and {columns} columns; in int4, rows are a multiple of "
            f"{ROWS_TOGETHER[device]} and columns a multiple of {GROUPS[-1]}"
        )
    return sizes[0]


def packed_bytes(shape: tuple[int, int], quantize: str, itemsize: int, device: str = "cpu") -> int:
    """The bytes of a quantized matrix, its scales and zero points included.

    Args:
        shape: (rows, columns).
        quantize: one of `FORMS`.
        itemsize: of the dtype in which the layers compute, in bytes.
        device: "cpu" or "cuda", which differ in int4.
    """
    rows, columns = shape
    if quantize == "int8":
        # A row has a scale in float32 and a zero point in one byte, which is always 0.
        return rows * columns + rows * (4 + 1)
    group = group_size(shape, device)
    if device == "cuda":
        itemsize = 2  # this layout is in bfloat16
        columns = -(-columns // CUDA_COLUMNS) * CUDA_COLUMNS
    return rows * columns // 2 + rows * (columns // group) * 2 * itemsize


def check_dtype(quantize: str, dtype: torch.dtype | str | None) -> None:
    """ValueError if layers that are quantized cannot compute in a dtype; None is not known yet."""
    if dtype == torch.float64 or (quantize == "int8" and dtype == torch.float16):
        why = "torchao does not quantize it"
        if dtype == torch.float16:
            # Activations are multiplied with integers up to 127, and only the sum is scaled.
            why = "sums of integers are larger than its numbers can be"
        raise ValueError(
            f"quantize={quantize!r} does not work in {str(dtype).removeprefix('torch.')}: {why}; "
            "choose dtype=torch.bfloat16 or torch.float32"
        )


def check_matrices(
    quantize: str,
    shapes: dict[str, tuple[int, ...]],
    dtypes: dict[str, torch.dtype],
    device: torch.device,
) -> None:
    """Checks that all matrices of the layers can be quantized.

    Args:
        quantize: one of `FORMS`.
        shapes, dtypes: of all tensors, by official name.
        device: where they go.

    Raises:
        ValueError: naming the first that cannot.
    """
    for name, shape in shapes.items():
        if is_quantized(name, shape):
            check_dtype(quantize, dtypes[name])
            try:
                if quantize == "int4":
                    group_size(shape, device.type)
            except ValueError as error:
                raise ValueError(f'quantize="int4" cannot pack {name}: {error}') from error


def quantizer(
    quantize: str, device: torch.device, dtype: torch.dtype | str | None = None
) -> Callable[[Tensor], Tensor]:
    """A function that moves a matrix to a device and quantizes it there.

    Args:
        quantize: one of `FORMS`.
        device: where the matrices go.
        dtype: in which the layers are to compute, if it is known already.

    Raises:
        ImportError: if torchao is not installed, or is too old; the message says how to get it.
        ValueError: if the form does not exist for this device or dtype.
    """
    check_dtype(quantize, dtype)
    if quantize == "int4":
        check_device(device)
    try:
        configs = torchao_configs(quantize, device.type)
    except ImportError as error:
        raise ImportError(
            f'quantize="{quantize}" needs torchao 0.18 or newer, which is not installed: pip '
            'install "minidream[int8]", or pip install torchao'
        ) from error
    from torchao.quantization import quantize_

    def quantized(matrix: Tensor) -> Tensor:
        matrix = matrix.to(device)
        group = None
        if quantize == "int4":
            group = group_size(tuple(matrix.shape), device.type)
            matrix = matrix.bfloat16() if device.type == "cuda" else matrix
        # torchao quantizes the weights of layers, not tensors.
        layer = nn.Linear(1, 1, bias=False, device="meta")
        layer.weight = nn.Parameter(matrix, requires_grad=False)
        quantize_(layer, configs(group))
        # torchao leaves a circle of references, which would keep the weight until it is noticed.
        layer.__dict__.pop("extra_repr", None)
        return layer.weight

    return quantized


def check_device(device: torch.device) -> None:
    """ValueError unless torchao has a layout of int4 for a device."""
    if device.type == "cuda":
        found = torch.cuda.get_device_capability(device)
        if found[0] >= 8:
            return
        here = f"{device} has compute capability {found[0]}.{found[1]}"
    elif device.type == "cpu":
        return
    else:
        here = f"the device is {device}"
    raise ValueError(
        'quantize="int4" exists for the CPU and for CUDA of compute capability 8.0 and newer (RTX '
        f'30, A100 and later), and {here}; quantize="int8" has no such limit'
    )


def torchao_configs(quantize: str, device: str) -> Callable:
    """A function `(group size or None)` that gives torchao's config; ImportError without it."""
    if quantize == "int8":
        from torchao.quantization import Int8WeightOnlyConfig

        return lambda group: Int8WeightOnlyConfig()
    if device == "cuda":
        from torchao.quantization import Int4WeightOnlyConfig

        layout = "tile_packed_to_4d"  # the layout of the kernel that comes with torch
        return lambda group: Int4WeightOnlyConfig(group_size=group, int4_packing_format=layout)
    # torch has the CPU's kernel for it, too; torchao's wrapper is a prototype.
    from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig

    return lambda group: PrototypeInt4WeightOnlyConfig(group_size=group)


def quantize_layers(llm: LLM, quantized: Callable[[Tensor], Tensor]) -> None:
    """Quantizes the layers of a language model that is in memory already, one by one.

    Args:
        llm: the language model.
        quantized: from `quantizer`.
    """
    for layer in llm.layers.modules():
        if isinstance(layer, nn.Linear):
            layer.weight = nn.Parameter(quantized(layer.weight.detach()), requires_grad=False)


def stored_bytes(tensor: Tensor) -> int:
    """The bytes of a tensor as it is stored; `nbytes` is what it would take unpacked."""
    if hasattr(tensor, "__tensor_flatten__"):
        return sum(stored_bytes(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])
    return tensor.nbytes
