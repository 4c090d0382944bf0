"""`minidream doctor`: what is installed here, and is each device right?

A device can be wrong without an error: operations on Apple's MPS have returned wrong numbers in
some versions of torch. So the toy's states, losses and pictures are computed on the CPU and on the
device, and compared.
"""

import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import psutil
import torch
from PIL import Image
from torch import Tensor

import minidream

from ..documents import Document
from ..images import to_tensor
from ..weights.commands import option, parse, parser_for

PACKAGES = (
    "torch transformers diffusers accelerate safetensors einops numpy captum jupyterlab ipywidgets"
).split()
PROMPTS = ("a large red circle left of a small blue square", "a small star")
STEPS = 5  # of sampling: enough for errors to grow


@dataclass(frozen=True)
class Comparison:
    """One kind of result on a device, compared with the CPU's.

    name: of the result.
    difference: the largest absolute difference; nan if the device gave numbers that are none.
    limit: what rounding explains.
    """

    name: str
    difference: float
    limit: float

    @property
    def agrees(self) -> bool:
        """Whether the difference is within the limit."""
        return self.difference <= self.limit  # False for nan

    def __str__(self) -> str:
        verdict = "ok" if self.agrees else "WRONG"
        return f"{self.name:22} differ by {self.difference:.1e}, limit {self.limit:.0e}: {verdict}"


def documents() -> list[Document]:
    """What is read and learned: a picture, an instruction, and the picture to paint."""
    before, after = (Image.linear_gradient(mode).resize((48, 48)) for mode in "LL")
    return [Document([before, "the same but larger", after.rotate(90)], targets=[1])]


def states_of(model) -> Tensor:
    """States of the dream queries, of two prompts of different length."""
    return model.encode(list(PROMPTS))


def losses_of(model) -> Tensor:
    """The language loss and the denoising loss."""
    with torch.no_grad():
        losses = model.loss(documents(), torch.Generator().manual_seed(0))
    return torch.stack([losses.language, losses.diffusion])


def gradients_of(model) -> Tensor:
    """The gradient of the loss with respect to the dream queries, as a share of its norm."""
    model.dream_queries.requires_grad_(True)
    losses = model.loss(documents(), torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(losses.total, model.dream_queries)
    model.dream_queries.requires_grad_(False)
    return gradient / gradient.norm()


def pictures_of(model) -> Tensor:
    """Pictures, sampled in a few steps."""
    return to_tensor(model.dream(list(PROMPTS), num_inference_steps=STEPS))


# What is compared, and the largest difference that rounding explains: float32 numbers summed in
# another order change the toy's states by 1e-5 and its pictures by 1e-4, and errors are larger.
RESULTS: dict[str, tuple[Callable, float]] = {
    "states of the queries": (states_of, 1e-3),
    "losses": (losses_of, 1e-3),
    "gradients": (gradients_of, 1e-3),
    "pictures": (pictures_of, 2e-2),
}


def compared(device: str) -> list[Comparison]:
    """All results on a device, compared with the CPU's.

    Args:
        device: as torch names it.

    Raises:
        RuntimeError and others: whatever the device raises.
    """
    expected, found = (minidream.load("toy", device=each) for each in ("cpu", device))
    comparisons = []
    for name, (result, limit) in RESULTS.items():
        one, other = (result(model).detach().cpu().float() for model in (expected, found))
        difference = (one - other).abs().max().item() if other.isfinite().all() else float("nan")
        comparisons.append(Comparison(name, difference, limit))
    return comparisons


def devices() -> list[str]:
    """The accelerators that are here."""
    found = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return found + (["mps"] if torch.backends.mps.is_available() else [])


def installed() -> dict[str, str]:
    """The version of each package that matters, or "missing"."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def memory_of(device: str) -> str:
    """Free and whole memory of a device, in GB."""
    if device.startswith("cuda"):
        free, whole = torch.cuda.mem_get_info(device)
        return f"{torch.cuda.get_device_name(device)}, {gigabytes(free)} of {gigabytes(whole)} free"
    memory = psutil.virtual_memory()
    shared = ", shared with the CPU" if device == "mps" else ""
    return f"{gigabytes(memory.available)} of {gigabytes(memory.total)} free{shared}"


def gigabytes(size: int) -> str:
    """Bytes in words."""
    return f"{size / 1e9:.1f} GB"


def verdict(checked: dict[str, "list[Comparison] | Exception"]) -> tuple[bool, str]:
    """Whether all is well, and what to do.

    Args:
        checked: for each accelerator, how it compares, or the error that it raised.
    """
    if not checked:
        return True, "all is well: the toy runs on the CPU, which every notebook is made for"
    wrong = [
        device
        for device, found in checked.items()
        if isinstance(found, Exception) or not all(each.agrees for each in found)
    ]
    if not wrong:
        return True, f"all is well: use {', '.join(checked)}"
    cure = "minidream.load(name, device='cpu')"
    update = " Another version of torch may cure it." if "mps" in wrong else ""
    return False, f"do not use {', '.join(wrong)}: load models with {cure}.{update}"


@dataclass(frozen=True)
class DoctorOptions:
    """What the command takes."""

    devices: tuple[str, ...] = option((), "which to check; default: every accelerator", metavar="D")


def main(arguments: list[str] | None = None) -> None:
    """The command line; its status is 1 if a device is wrong.

    Args:
        arguments: None takes those of the process.
    """
    parser = parser_for(
        DoctorOptions,
        "minidream doctor",
        "Says what is installed, and whether the toy gives the same states, losses, gradients and "
        "pictures on every accelerator as on the CPU.",
    )
    options = parse(parser, DoctorOptions, arguments)
    print(f"minidream {minidream.__version__}, Python {platform.python_version()}")
    print(f"{platform.platform()}, {psutil.cpu_count()} cores, {torch.get_num_threads()} threads")
    print(", ".join(f"{name} {number}" for name, number in installed().items()))
    checked: dict[str, list[Comparison] | Exception] = {}
    print(f"\ncpu: {memory_of('cpu')}")
    minidream.load("toy", device="cpu").dream("a star", num_inference_steps=1)
    for device in options.devices or devices():
        try:
            checked[device] = compared(device)
            print(f"\n{device}: {memory_of(device)}")
            print("\n".join(map(str, checked[device])))
        except Exception as error:  # whatever it is, the user should read it as a finding
            checked[device] = error
            print(f"\n{device}: {type(error).__name__}: {error}")
    well, words = verdict(checked)
    print(f"\n{words}")
    sys.exit(0 if well else 1)
