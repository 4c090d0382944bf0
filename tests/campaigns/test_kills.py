"""Training is killed at hundreds of random moments, and loses nothing.

Each run is a fork of this process, in which everything is imported already, so that a start takes
milliseconds. After each kill every file is whole; a run that was killed many times ends with the
weights, the optimizer, the moving average and the log of one that was not.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from minidream import plots  # noqa: F401  (so that a fork need not import it)
from minidream.train import clip_stages, stages
from minidream.trainer import plans, runs
from minidream.trainer.loop import fit
from minidream.weights import parts

sys.path.append(str(Path(__file__).parents[1]))
from killed_run import SmallStage  # noqa: E402

pytestmark = pytest.mark.slow


class QuickStage(SmallStage):
    """A hundred steps without a pause."""

    recipe = replace(SmallStage.recipe, steps=100)

    def batch(self, seed, step, process):
        return torch.randn(4, 3, generator=torch.Generator().manual_seed(1000 * seed + step))


def start(work: Callable[[], object]) -> int:
    """Begins work in a fork of this process, silently, and returns its id."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        torch.set_num_threads(1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def killed_after(seconds: float, work: Callable[[], object]) -> bool:
    """Starts work and kills it; False if it had ended before, without an error."""
    process = start(work)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def check_files(folder: Path) -> None:
    """Every file is whole, and at most one unfinished write is left of each."""
    for path in folder.glob("*.checkpoint.pt"):
        saved = torch.load(path, weights_only=True)
        assert 0 < saved["step"] == saved["log"][-1]["step"]
    for path in folder.glob("*.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert [line["step"] for line in lines] == [20 * (n + 1) for n in range(len(lines))]
    for path in folder.glob("*.safetensors"):
        assert load_file(path) and plans.plan_of_part(path)["steps"]
    unfinished = [path.name.rsplit(".", 2)[0] for path in folder.glob("*.tmp")]
    assert len(unfinished) == len(set(unfinished))


def same(one, other) -> bool:
    """Whether two nested values are equal, bit for bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def result(folder: Path) -> dict:
    """All that a run leaves, without the times in its log."""
    (checkpoint,) = folder.glob("*.checkpoint.pt")
    saved, found = torch.load(checkpoint, weights_only=True), {}
    (log,) = folder.glob("*.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines == saved["log"]
    for line in lines:
        del line["samples_per_second"]
    for path in (*folder.glob("*.safetensors"), *folder.glob("final.pt")):
        found[path.name] = path.read_bytes()
    return found | {"log": lines, **{key: saved[key] for key in saved if key != "log"}}


def campaign(
    make: Callable[[Path], None], folder: Path, kills: int, prepare: Callable[[Path], None]
) -> None:
    """Kills runs at random moments, and goes on with them, until all kills are made.

    Args:
        make: one whole run in a folder.
        folder: holds a folder for each run.
        kills: how many.
        prepare: what is in a folder before its run.
    """
    rng, made, run, killed_here, starts = random.Random(0), 0, 0, 0, 0
    whole = folder / "whole"
    whole.mkdir()
    prepare(whole)
    clock = time.perf_counter()
    assert os.waitpid(start(lambda: make(whole)), 0)[1] == 0
    seconds = time.perf_counter() - clock
    most = 0
    while made < kills:
        own = folder / f"run {run}"
        if not own.exists():
            own.mkdir()
            prepare(own)
        starts += 1
        killed = killed_after(rng.uniform(0, 0.7 * seconds), partial(make, own))
        made, killed_here = made + killed, killed_here + killed
        check_files(own)
        if not killed:
            assert same(result(own), result(whole)) and not list(own.glob("*.tmp"))
            run, most, killed_here = run + 1, max(most, killed_here), 0
    assert os.waitpid(start(partial(make, own)), 0)[1] == 0
    assert same(result(own), result(whole)) and not list(own.glob("*.tmp"))
    print(
        f"{made} kills in {starts} starts, {run + 1} runs of {seconds:.2f} s; "
        f"one run was killed {max(most, killed_here)} times"
    )


def test_a_run_that_is_killed_200_times_loses_nothing(tmp_path):
    def make(folder: Path) -> None:
        stage = QuickStage()
        fit(stage, folder, save_seconds=0.0, progress=False)
        torch.save(stage.state_dict(), folder / "final.pt")

    campaign(make, tmp_path, 200, lambda folder: None)


def test_a_stage_that_is_killed_between_its_parts_loses_none(tmp_path, monkeypatch):
    recipe = replace(clip_stages.ClipStage.recipe, batch=2)
    monkeypatch.setattr(clip_stages.ClipStage, "recipe", recipe)
    monkeypatch.setitem(stages.RECIPES, "clip", recipe)
    text = clip_stages.TextStage.recipe
    monkeypatch.setitem(stages.RECIPES, "text", replace(text, batch=2))
    monkeypatch.setattr(clip_stages.TextStage, "recipe", replace(text, batch=2))
    save_part = runs.save_part

    def slowly(*arguments) -> None:
        """Most of the run's time is spent between its parts."""
        time.sleep(0.3)
        save_part(*arguments)

    assert (
        os.waitpid(start(lambda: stages.run("text", tmp_path, steps=1, progress=False)), 0)[1] == 0
    )
    text_part = (tmp_path / "text.clip_text.safetensors").read_bytes()
    monkeypatch.setattr(runs, "save_part", slowly)

    def make(folder: Path) -> None:
        stages.run("clip", folder, steps=20, progress=False)

    def prepare(folder: Path) -> None:
        (folder / "text.clip_text.safetensors").write_bytes(text_part)

    campaign(make, tmp_path, 60, prepare)
    seen = {name for name in parts.LEAVES["clip"]}
    assert {
        path.name.split(".")[1] for path in (tmp_path / "whole").glob("clip.*.safetensors")
    } == seen
