"""Watching any part of the model: the outputs of modules, chosen by name, during the real pass.

Every probe, recorder or intervention, sets its hooks through `hooked`.

**Threads.** Hooks belong to a module, and all threads share the modules. So a hook acts only in the
thread that opened the `with` block: passes of other threads go through unchanged, and nothing of
them is recorded. Each thread may have blocks of its own at the same time.

**Compiled models.** Compiled code ignores hooks that were set after it was made, and keeps those
that were there. So as long as a block is open, everything in the process that `torch.compile`
compiled runs as the plain code it was made from. A block is not opened inside a compiled function.

**Gradients.** One block may hold passes with gradients and without, in `torch.inference_mode` and
in autocast. What a probe computes from them is float32 and free of these modes, so that it may
be used and changed in training. Where gradient checkpointing runs a part of a pass again, within
the backward pass, it is recorded only once.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, contextmanager
from difflib import get_close_matches
from fnmatch import fnmatchcase
from threading import Lock, get_ident

import torch
from torch import Tensor, nn

WRAPPER = "_orig_mod"  # under this name, `torch.compile(module)` keeps the module


class Uncompiled:
    """A context in which nothing runs compiled; any number of threads may be inside of it.

    `torch.compiler` has one stance for the whole process: the first to enter changes it, and the
    last to leave restores what was there, whatever their order.
    """

    def __init__(self):
        self.lock, self.inside, self.stance = Lock(), 0, None

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                try:
                    self.stance = torch.compiler.set_stance("force_eager")
                except RuntimeError as error:
                    raise RuntimeError(
                        "a probe cannot be opened inside a compiled function, which ignores hooks; "
                        "open it around the call of that function"
                    ) from error
            self.inside += 1

    def __exit__(self, *exception) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.stance.__exit__(*exception)


uncompiled = Uncompiled()


@contextmanager
def hooked(hooks: Iterable[tuple[Callable, Callable]], recomputed: bool = False):
    """Sets hooks for a `with` block and its thread; removes them also after an exception.

    Args:
        hooks: pairs of a method that sets a hook, such as `module.register_forward_hook`, and the
            function that is to be the hook.
        recomputed: whether the hooks also act when gradient checkpointing runs a part of a pass
            again, within the backward pass. A change must be made again, but nothing is recorded
            twice.

    Raises:
        RuntimeError: inside a function that `torch.compile` compiled.
    """
    owner, handles = get_ident(), []

    def own(function: Callable) -> Callable:
        def act(*arguments):
            if get_ident() != owner:
                return None
            if not recomputed and torch._C._current_graph_task_id() >= 0:  # a backward pass runs
                return None
            return function(*arguments)

        return act

    with uncompiled:
        try:
            for register, function in hooks:
                handles.append(register(own(function)))
            yield
        finally:
            for handle in handles:
                handle.remove()


def recording_mode(device: torch.device) -> AbstractContextManager:
    """A context for what recorders compute: no gradients, and none of the modes of the pass.

    A tensor made in inference mode could not be used in training later, and autocast would round a
    product of matrices.

    Args:
        device: of what is computed.
    """
    if not torch.is_inference_mode_enabled() and not torch.is_autocast_enabled(device.type):
        return torch.no_grad()  # the usual case, and the cheapest
    stack = ExitStack()
    for mode in (
        torch.inference_mode(False),  # first, since it turns gradients on
        torch.no_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        stack.enter_context(mode)
    return stack


def named_modules(model: nn.Module) -> dict[str, nn.Module]:
    """All parts of a module by their dotted names, which are those from before any `torch.compile`.

    Of what `torch.compile` returns and the module inside it, which have one name, it is the latter.
    """
    modules = {}
    for name, module in model.named_modules():
        modules[".".join(part for part in name.split(".") if part != WRAPPER)] = module
    return modules


def matching(pattern: str, names: Iterable[str], kind: str) -> list[str]:
    """The names that match a pattern, in their order.

    Args:
        pattern: a dotted name in which the wildcards of `fnmatch` (`*`, `?`, `[...]`) match within
            one part: "llm.layers.*" matches "llm.layers.0", but not "llm.layers.0.mlp".
        names: all that there are.
        kind: of what they name, for errors.

    Raises:
        ValueError: if nothing matches; the message gives the nearest names.
    """
    names, parts = list(names), pattern.split(".")

    def matches(name: str) -> bool:
        own = name.split(".")
        return len(own) == len(parts) and all(map(fnmatchcase, own, parts))

    if found := [name for name in names if matches(name)]:
        return found
    near = get_close_matches(pattern, names, n=5, cutoff=0.5)
    near = near or [name for name in names if "." not in name] or names[:5]
    raise ValueError(f"no {kind} matches {pattern!r}; the nearest names are {', '.join(near)}")


def matching_modules(model: nn.Module, pattern: str) -> dict[str, nn.Module]:
    """The modules whose dotted name matches a pattern; names and errors as in `matching`."""
    modules = {name: module for name, module in named_modules(model).items() if name}
    return {name: modules[name] for name in matching(pattern, modules, "module")}


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
        pattern: as in `matching`: `*` matches within one part of a dotted name.

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

    with hooked((module.register_forward_hook, recorder(name)) for name, module in modules.items()):
        yield outputs
    if not any(outputs.values()):
        raise RuntimeError(
            f"{pattern!r} matches {len(modules)} modules, and none of them ran in the `with` block"
        )
