"""`minidream.load`: finds the folder of a name and loads a model from it."""

import os
from pathlib import Path

import torch

from ..model import DreamLLM
from .files import as_path
from .layout import OTHER_RUNS, PRETRAINED
from .parts import assemble, load_run
from .quantizing import check_form, quantize_layers, quantizer
from .reading import DTYPES, read_folder
from .replacing import finish_replacing, unchanged, was_cut_short
from .scanning import is_there, scan_folder
from .variants import read_config

HUB_NAMES = ("RunpeiDong/dreamllm-7b-chat-aesthetic-v1.0", "RunpeiDong/dreamllm-7b-chat-v1.0")


def load(
    name: str | os.PathLike,
    device: str | int | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    component_configs: str | os.PathLike | None = None,
    quantize: str | None = None,
) -> DreamLLM:
    """Loads a DreamLLM, ready to use.

    On the CPU, tensors that keep their stored dtype are mapped into memory and read at their first
    use. All others are converted or moved one by one. In both cases memory holds the weights once.

    Args:
        name: "toy", "toy-1" or "toy-2" (in the package; stages I to III from other seeds, on the
            same frozen parts), a folder in the official layout, a folder that
            `minidream.train` wrote, or the name of a repository on the Hugging Face hub. A path
            may begin with "~", the home folder.
        device: None takes CUDA if available, else Apple's MPS, else the CPU.
        dtype: of floating-point numbers, from torch or by its name ("bfloat16"). None is float32
            for the toy, and the stored dtype for all other weights. "auto" is the dtype that
            `config.json` gives, as in transformers, and the stored one if it gives none.
        component_configs: a folder with `clip_vision/` and `diffusion/{unet,vae,scheduler}/`. None
            takes the one in the checkpoint, else those of CLIP ViT-L/14 and Stable Diffusion
            2.1-base, which ship with the package.
        quantize: "int8" stores the matrices of the language model's layers in eight bits, "int4"
            in four (both need torchao). Each is packed as soon as it is read, so that neither the
            host nor the device ever holds more than one of them unpacked.

    Raises:
        ValueError: for an unknown name, dtype, device or `quantize` (says what exists), a form
            that does not exist for the device or the sizes, a config of another model or variant
            (its file and field), a checkpoint with missing, extra or misshapen tensors (their
            names), a file that is damaged, empty or a Git LFS pointer, a pickle that holds more
            than tensors, a folder that is saved into meanwhile, or component configs for a folder
            that has none.
        TypeError: for component configs that are no path.
        FileNotFoundError: if a file is missing.
        MemoryError: if the weights take more memory than is free (both numbers), before any of
            them is read.
        ImportError: if torchao is needed and not installed.
    """
    check_form(quantize)
    device, dtype = as_device(device), as_dtype(dtype)
    # It fails here, not after minutes of reading.
    quantized = quantizer(quantize, device, dtype) if quantize else None
    component_configs = as_components(component_configs)
    folder, is_other_run = find(name), os.fsdecode(name) in OTHER_RUNS
    if dtype == "auto":
        dtype = dtype_of_config(folder / "config.json")
    elif dtype is None and (is_other_run or os.fsdecode(name) == "toy"):
        dtype = torch.float32
    if is_there(folder / "config.json"):
        with unchanged(folder, "config.json"):
            # What another run replaces is quantized afterwards.
            form = (None, None) if is_other_run else (quantize, quantized)
            model = read_folder(folder, device, dtype, component_configs, *form)
        if is_other_run:
            load_run(model, PRETRAINED / os.fsdecode(name))
            if quantized:
                quantize_layers(model.llm, quantized)
    elif component_configs is not None:
        raise ValueError(
            f"{folder} was written by minidream.train, whose models have no component configs; "
            f"component_configs {str(component_configs)!r} would have no effect"
        )
    else:
        model = assemble(folder).to(dtype=dtype)
        if quantized:
            quantize_layers(model.llm, quantized)
    return model.to(device).eval().requires_grad_(False)


def as_components(folder: str | os.PathLike | None) -> Path | None:
    """The folder of component configs that a user named; None stays None.

    Raises:
        TypeError, ValueError: if it is no path, or an empty one.
    """
    if folder is None:
        return None
    try:
        if os.fsdecode(folder):
            return as_path(folder)
    except TypeError as error:
        raise TypeError(f"component_configs is a folder or None, not {folder!r:.60}") from error
    raise ValueError(f"component_configs is a folder or None, not {folder!r}")


def as_dtype(dtype: str | torch.dtype | None) -> torch.dtype | str | None:
    """A dtype from its name, with or without "torch." before it; None and "auto" stay as they are.

    Raises:
        ValueError: for any other name, and for a dtype that models do not compute in.
    """
    if dtype is None or (isinstance(dtype, str) and dtype == "auto"):
        return dtype
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or found not in DTYPES:
        names = ", ".join(str(known).removeprefix("torch.") for known in DTYPES)
        raise ValueError(f'dtype is None, "auto" or one of {names}, not {dtype!r}')
    return found


def dtype_of_config(path: Path) -> torch.dtype | None:
    """The dtype that a `config.json` gives, None if it gives none or is not there.

    Raises:
        ValueError: if it is not a dtype that `load` knows, or given twice and differently.
    """
    config = read_config(path) if is_there(path) else {}
    given = {name: config[name] for name in ("torch_dtype", "dtype") if name in config}
    given = {name: value for name, value in given.items() if value != "auto"}
    try:
        (dtype,) = {as_dtype(value) for value in given.values()} or {None}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: the dtype is given as {given}, which is not one") from error
    return dtype


def as_device(device: str | int | torch.device | None) -> torch.device:
    """A device that is here; None is CUDA if available, else Apple's MPS, else the CPU.

    Raises:
        ValueError: if there is no such device; the message says which there are.
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
        if found.type == "meta":
            raise RuntimeError("tensors on it have no values")
    # Each kind of device that torch was built without raises an exception of its own.
    except Exception as error:
        here = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        here += ["mps"] if torch.backends.mps.is_available() else []
        raise ValueError(
            f"device {str(device)!r} cannot be used; here there are {', '.join(here)} ({error})"
        ) from error
    return found


def find(name: str | os.PathLike) -> Path:
    """The folder of a name as in `load`; a name on the hub is downloaded unless it is cached.

    Raises:
        ValueError: if the name is unknown (says what exists), or the download fails.
        FileNotFoundError: if a folder of that name holds neither a checkpoint nor trained parts.
    """
    text = os.fsdecode(name)
    folder = PRETRAINED / "toy" if text in ("toy", *OTHER_RUNS) else as_path(name)
    if text and folder.is_dir():
        finish_replacing(folder)
        if is_there(folder / "config.json") or list(folder.glob("stage3.*.safetensors")):
            return folder
        hint = "; a save into it was cut short" if was_cut_short(folder) else ""
        raise FileNotFoundError(
            f"{folder / 'config.json'} is missing: {folder} is neither in the official layout nor "
            f"the folder of a finished training{hint}"
        )
    if is_hub_name(name):
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(name, ignore_patterns=["training_args.bin"]))
        except Exception as error:
            raise ValueError(
                f"{name!r} is not a folder here, and downloading it from the hub failed: {error}"
            ) from error
    raise ValueError(
        f'no weights are known as {text!r}. There are: "toy", "toy-1", "toy-2", a folder in the '
        "official layout, a folder that minidream.train wrote, or the name of a repository on the "
        f"hub such as {HUB_NAMES[0]!r}"
    )


def is_hub_name(name: str | os.PathLike) -> bool:
    """Whether a name that is not a folder can be a repository on the hub, "owner/repository"."""
    if str(name) in HUB_NAMES:
        return True
    looks_like_path = not isinstance(name, str) or name.startswith((".", "/", "~"))
    return not looks_like_path and name.count("/") == 1 and not Path(name).parent.exists()


def find_full() -> Path | None:
    """The folder of the full weights if they are on this machine, else None.

    Nothing is ever downloaded. The folder named in the environment variable MINIDREAM_7B comes
    first, then an earlier and complete download from the hub.

    Raises:
        FileNotFoundError: if MINIDREAM_7B is set and is not a folder of weights.
    """
    if named := os.environ.get("MINIDREAM_7B"):
        if not as_path(named).is_dir():
            raise FileNotFoundError(f"MINIDREAM_7B is {named!r}, which is not a folder here")
        return find(named)
    from huggingface_hub import try_to_load_from_cache

    for name in HUB_NAMES:
        config = try_to_load_from_cache(name, "config.json")
        if isinstance(config, str):
            try:
                scan_folder(Path(config).parent)
            except FileNotFoundError:  # an interrupted download
                continue
            return Path(config).parent
    return None
