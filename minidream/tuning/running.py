"""One run of fine-tuning, from the model that was named to the one that is saved."""

import hashlib
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from ..model import DreamLLM
from ..trainer import sharding
from ..trainer.loop import fit
from ..trainer.plans import plan_of, refuse_another
from ..trainer.processes import state
from ..trainer.runs import losses_figure
from ..weights import load, save
from ..weights.checking import files_there
from ..weights.files import check_writable, read_json, write_atomically, write_figure, write_json
from .choices import choose, dtypes_of, merge, trained_of
from .forgetting import Losses, Task, comparison, losses_on_tasks
from .needs import fitting, needs
from .stage import TuneStage
from .stream import Stream, Survey, survey
from .words import add_words


def tune(options, tasks: dict[str, Task]) -> None:
    """Fine-tunes and saves a model, unless that was done before.

    Args:
        options: `command.Options`.
        tasks: for a toy, what it knew before.

    Raises:
        TypeError, ValueError, FileNotFoundError: as `minidream.load`, `survey` and `add_words`; or
            for another run in the folder.
        MemoryError: if a step takes more memory than is free, before the first one.
        OSError: if nothing can be written there, before the first step.
    """
    main, processes, folder = state().is_main_process, state().num_processes, options.folder
    say = print if main else lambda *_: None
    report = folder / "tune.json"
    check_places(folder)
    model = loaded(options)
    known = known_before(model, options, tasks)
    old = measured(model, known)
    add_words(model, options.words, options.seed)
    found = survey(model, options.data, options.both_ways)
    say(f"data: {found}")
    built_on = what_determines(model, options, found)
    plan = plan_of(options.recipe, options.seed, built_on=built_on)
    if report.exists():
        finished = read_json(report)
        refuse_another(report, finished["plan"], plan)
        say(f"finished before: {folder / 'model'}\n{comparison(**finished['losses'])}")
        return
    dtypes = dtypes_of(model)
    chosen(model, options)
    sharded = sharding.is_wanted()
    rows, share = -(-options.batch // processes), processes if sharded else 1
    counted = partial(needs, model, rows, found.longest, found.painted, share)
    needed, again = fitting(counted, state().device, options.checkpointing, there=not sharded)
    say(f"{needed}{'; layers are computed again' if again else ''}")
    stream = Stream(model, options.data, found.records, options.seed, options.both_ways)
    own = {"own data": partial(first_of, stream, found)}
    before = measured(model, own) | old
    stage = TuneStage(model, stream, options.recipe)
    with computed_again(model, again):
        fit(
            stage,
            folder,
            options.seed,
            save_seconds=options.save_seconds,
            progress=not options.quiet,
            built_on=built_on,
        )
    if sharded:  # what each process has is a part; a model of its own takes the whole
        values = sharding.whole([each.detach() for each in trained_of(model)], main)
        model = rebuilt(options, values) if main else model
    if main:
        after = measured(model, own | known)
        merge(model, dtypes)
        save(model, folder / "model")
        content = {"plan": plan, "losses": {"before": before, "after": after}}
        write_atomically(partial(write_json, content), report)
        write_figure(partial(losses_figure, folder / "tune.jsonl", "tune"), folder / "tune.png")
        say(f"{comparison(before, after)}\nsaved: minidream.load({str(folder / 'model')!r})")
    state().wait_for_everyone()


def loaded(options) -> DreamLLM:
    """The model that was named; on the CPU if processes will share its weights."""
    return load(
        options.model,
        device="cpu" if sharding.is_wanted() else state().device,
        dtype=options.dtype,
        component_configs=options.component_configs,
    )


def chosen(model: DreamLLM, options) -> None:
    """Chooses what learns; a new LoRA follows from the seed."""
    torch.manual_seed(options.seed)
    choose(model, options.learn, options.rank, len(options.words))


def rebuilt(options, values: list[torch.Tensor]) -> DreamLLM:
    """The model as it was before training, with other values of what learned."""
    model = loaded(options)
    add_words(model, options.words, options.seed)
    chosen(model, options)
    with torch.no_grad():
        for parameter, value in zip(trained_of(model), values, strict=True):
            parameter.copy_(value)
    return model


def check_places(folder: Path) -> None:
    """OSError or ValueError if results could not be written in the end: found before any work."""
    for name in ("tune.json", "tune.checkpoint.pt"):
        check_writable(folder / name)
    if (folder / "model").exists():
        files_there(folder / "model", set())


def what_determines(model: DreamLLM, options, found: Survey) -> dict[str, str | int]:
    """What else than the recipe and the seed determines the weights, for the plan of the run."""
    return {
        "model": f"{options.model}, {hash_of(model)}",
        "data": f"{found.records} records, {found.usable} usable, both ways: {options.both_ways}",
        "learn": " ".join(sorted(options.learn)),
        "words": " ".join(options.words),
        "rank": options.rank,
    }


def hash_of(model: DreamLLM) -> str:
    """A hash of some tensors of a model, by which another one is told."""
    layer, found = model.llm.layers[-1], hashlib.sha256()
    some = (model.dream_queries, model.llm.norm.weight, layer.self_attn.k_proj.weight)
    for tensor in (*some, model.decoder.unet.conv_out.weight, model.vision.projector.weight):
        found.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:12]


def known_before(model: DreamLLM, options, tasks: dict[str, Task]) -> dict[str, Task]:
    """What a model knew: tasks of the toy, and data from before."""
    known = dict(tasks) if model.config.template == "toy" else {}
    if options.old:
        found = survey(model, options.old)
        known["old data"] = partial(first_of, Stream(model, options.old, found.records), found)
    return known


def first_of(stream: Stream, found: Survey, rng, samples: int, model: DreamLLM):
    """The first documents of a stream, as a task draws its samples."""
    return stream.batch(0, min(samples, found.usable))


def measured(model: DreamLLM, tasks: dict[str, Task]) -> Losses:
    """Losses on tasks; other processes than the first leave that to it."""
    return losses_on_tasks(model.eval(), tasks) if state().is_main_process else {}


@contextmanager
def computed_again(model: DreamLLM, again: bool):
    """Meanwhile, layers keep only their input for the backward pass, and the U-Net's blocks too."""
    from torch.utils.checkpoint import checkpoint

    layers = list(model.llm.layers) if again else []
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    if again:
        model.decoder.unet.enable_gradient_checkpointing()
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward
        if again:
            model.decoder.unet.disable_gradient_checkpointing()
