"""Watching any part of the model: the outputs of modules, chosen by name, during the real pass."""

from collections.abc import Iterable
from contextlib import contextmanager
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


@contextmanager
def hooked(handles: Iterable[RemovableHandle]):
    """Removes hooks at the end of the `with` block, also after an exception.

    Args:
        handles: what `register_forward_hook` and its relatives return.
    """
    handles = list(handles)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def matching_modules(model: nn.Module, pattern: str) -> dict[str, nn.Module]:
    """The modules whose dotted name matches a pattern, in the order of `model.named_modules()`.

    Args:
        model: any module; the names are those of its `named_modules()`.
        pattern: a dotted name in which the wildcards of `fnmatch` (`*`, `?`, `[...]`) match within
            one part: "llm.layers.*" matches "llm.layers.0", but not "llm.layers.0.mlp".

    Raises:
        ValueError: if nothing matches; the message gives the nearest names.
    """
    parts = pattern.split(".")

    def matches(name: str) -> bool:
        own = name.split(".")
        return len(own) == len(parts) and all(map(fnmatchcase, own, parts))

    modules = {name: module for name, module in model.named_modules() if name}
    found = {name: module for name, module in modules.items() if matches(name)}
    if not found:
        near = get_close_matches(pattern, modules, n=5, cutoff=0.5)
        near = near or [name for name, _ in model.named_children()]
        raise ValueError(f"no module matches {pattern!r}; the nearest names are {', '.join(near)}")
    return found


def main_output(name: str, output) -> Tensor:
    """The tensor of a module's output, as `watch` records it."""
    first = output if isinstance(output, Tensor) else output[0]
    if not isinstance(first, Tensor):
        raise TypeError(f"{name} returned no tensor, but a {type(first).__name__}")
    return first


@contextmanager
def watch(model: nn.Module, pattern: str):
    """Records the outputs of modules, chosen by name, of every pass inside the `with` block.

        with probe.watch(model, "llm.layers.*") as outputs:
            model.encode("a red circle")
        outputs["llm.layers.2"][0]      # the residual stream after the third layer

    The tensors are those of the pass itself: neither copied, nor moved to the CPU, nor detached.
    `encode` and `dream` run without gradients, so that nothing but the tensors is kept; during
    `loss`, gradients can be taken with respect to them, and `detach` frees the graph.

    Args:
        model: any module, such as a DreamLLM.
        pattern: as in `matching_modules`: `*` matches within one part of a dotted name.

    Yields:
        {name: list of tensors, one for each call}, in the order of `model.named_modules()`. The
        list of a module that did not run stays empty. Of an output that is a tuple, or one of
        diffusers' and transformers' output objects, the first element is recorded (their `sample`
        or `last_hidden_state`).

    Raises:
        ValueError: at once, if no module matches the pattern (with the nearest names).
        TypeError: during the pass, if an output does not begin with a tensor.
        RuntimeError: at the end, if none of the modules ran.
    """
    modules = matching_modules(model, pattern)
    outputs: dict[str, list[Tensor]] = {name: [] for name in modules}

    def recorder(name: str):
        def record(module: nn.Module, inputs: tuple, output) -> None:
            outputs[name].append(main_output(name, output))

        return record

    with hooked(module.register_forward_hook(recorder(name)) for name, module in modules.items()):
        yield outputs
    if not any(outputs.values()):
        raise RuntimeError(
            f"{pattern!r} matches {len(modules)} modules, and none of them ran in the `with` block"
        )
