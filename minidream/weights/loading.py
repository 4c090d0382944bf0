"""`minidream.load`: finds the folder that a name means, and loads a model from it."""

import math
import os
from pathlib import Path

import torch

from ..model import DreamLLM
from .layout import PRETRAINED
from .parts import assemble
from .reading import look_at_folder, read_folder

KNOWN = ("RunpeiDong/dreamllm-7b-chat-aesthetic-v1.0", "RunpeiDong/dreamllm-7b-chat-v1.0")


def load(
    name: str | Path,
    device=None,
    dtype: torch.dtype | None = None,
    component_configs: str | Path | None = None,
    quantize: str | None = None,
) -> DreamLLM:
    """Loads a DreamLLM, ready to use.

    Tensors that stay on the CPU in their stored dtype are mapped into memory and read when they are
    first used; all others are converted one by one. Either way, memory holds the weights only once.

    Args:
        name: "toy" (in the package); a folder in the official layout; a folder that
            `minidream.train` wrote; or a hub id.
        device: None takes CUDA if there is one, else the CPU.
        dtype: None is float32 for the toy, else as stored.
        component_configs: a folder with `clip_vision/` and `diffusion/{unet,vae,scheduler}/`. None
            takes the one in the checkpoint, else those of CLIP ViT-L/14 and Stable Diffusion
            2.1-base, which ship with the package.
        quantize: "int8" stores the matrices of the language model's layers in eight bits (needs
            torchao).

    Raises:
        ValueError: for an unknown name (says what exists), a config of another model, a checkpoint
            with missing, extra or misshapen tensors (their names), a pickle that holds more than
            tensors.
        FileNotFoundError: for a file that is not there.
        MemoryError: if the weights take more memory than is free (both numbers), before any of them
            is read.
        ImportError: if torchao is needed and missing.
    """
    if quantize not in (None, "int8"):
        raise ValueError(f'quantize is None or "int8", not {quantize!r}')
    if quantize:
        quantize_matrices = int8_quantizer()  # asked for now, not after minutes of reading
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    folder = find(name)
    if (folder / "config.json").exists():
        model = read_folder(
            folder,
            device,
            dtype or (torch.float32 if str(name) == "toy" else None),
            component_configs,
            quantize,
        )
    else:
        model = assemble(folder).to(dtype=dtype)
    if quantize:
        quantize_matrices(model.llm.layers, device)
    return model.to(device).eval().requires_grad_(False)


def int8_quantizer():
    """A function of a module and a device that stores the module's matrices there in eight bits.

    It goes matrix by matrix. ImportError says how to get torchao.
    """
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise ImportError(
            'quantize="int8" needs torchao, which is not installed: '
            'pip install "minidream[int8]", or pip install torchao'
        ) from error
    return lambda module, device: quantize_(module, Int8WeightOnlyConfig(), device=device)


def find(name: str | Path) -> Path:
    """The folder that a name means; ValueError says what exists."""
    if str(name) == "toy":
        return PRETRAINED / "toy"
    folder = Path(name)
    if folder.is_dir():
        if (folder / "config.json").exists() or list(folder.glob("stage3.*.safetensors")):
            return folder
        raise FileNotFoundError(
            f"{folder / 'config.json'} is missing: {folder} is neither in the official layout "
            "nor the folder of a finished training"
        )
    if str(name) in KNOWN or (
        isinstance(name, str)
        and name.count("/") == 1
        and not name.startswith((".", "/", "~"))
        and not folder.parent.exists()
    ):
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(name, ignore_patterns=["training_args.bin"]))
        except Exception as error:
            raise ValueError(
                f"{name!r} is no folder here, and could not be had from the hub: {error}"
            ) from error
    raise ValueError(
        f'no weights are known as {str(name)!r}. There are: "toy", a folder in the official '
        f"layout, a folder that minidream.train wrote, or a hub id such as {KNOWN[0]!r}"
    )


def find_full() -> Path | None:
    """The folder of the full weights, if this machine has them; None if not. Downloads nothing.

    The folder that MINIDREAM_7B names comes first, then an earlier download from the hub if it is
    complete.

    Raises:
        FileNotFoundError: if MINIDREAM_7B names something that is no folder of weights.
    """
    if named := os.environ.get("MINIDREAM_7B"):
        if not Path(named).is_dir():
            raise FileNotFoundError(f"MINIDREAM_7B is {named!r}, which is no folder here")
        return find(named)
    from huggingface_hub import try_to_load_from_cache

    for name in KNOWN:
        config = try_to_load_from_cache(name, "config.json")
        if isinstance(config, str):
            try:
                look_at_folder(Path(config).parent)
            except FileNotFoundError:  # a download that was stopped half-way
                continue
            return Path(config).parent
    return None


def inventory(folder: str | Path) -> dict[str, tuple[int, int, int]]:
    """How much each file of weights holds: {file: (tensors, numbers, bytes)}.

    Only names and shapes are read; errors as in `look_at_folder`.
    """
    files: dict[str, tuple[int, int, int]] = {}
    for part in look_at_folder(Path(folder)).values():
        for tensor in part.tensors.values():
            tensors, numbers, stored = files.get(tensor.path.name, (0, 0, 0))
            size = math.prod(tensor.shape)
            files[tensor.path.name] = (
                tensors + 1,
                numbers + size,
                stored + size * tensor.dtype.itemsize,
            )
    return files
