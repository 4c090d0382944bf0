"""Saves that are ended at random moments: a folder always holds the old or the new model.

`-s` shows how often each was found.
"""

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from models_shared import in_child, same_weights, tiny_official

import minidream
from minidream.weights import writing
from minidream.weights.replacing import HIDDEN, JOURNAL

pytestmark = pytest.mark.slow

KILLS = 100  # of each kind
FOREIGN = ("thesis.tex", ".git/HEAD", "eval/scores.json", "model-00001-of-00009.safetensors")


@pytest.fixture(scope="module")
def models() -> tuple[minidream.DreamLLM, minidream.DreamLLM]:
    """The tiny checkpoint, and one with other weights in the same shapes."""
    old, new = tiny_official(), tiny_official()
    with torch.no_grad():
        for parameter in new.parameters():
            parameter.mul_(1.25)
    return old, new


def save(model: minidream.DreamLLM, folder: Path, shard_bytes: int) -> None:
    """Saves in as many shards as give the wanted size."""
    writing.SHARD_BYTES = shard_bytes
    minidream.save(model, folder)


@pytest.fixture
def folder(models, tmp_path, monkeypatch) -> Path:
    """A folder with the old model in three shards, among files of other things."""
    monkeypatch.setattr(writing, "SHARD_BYTES", writing.SHARD_BYTES)
    folder = tmp_path / "folder"
    save(models[0], folder, 250_000)
    for name in FOREIGN:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"years of work on {name}", encoding="utf-8")
    return folder


def ended(model, folder: Path, number: int, wait) -> bool:
    """Saves in five shards in another process, and ends it with a signal.

    Args:
        model: to be saved.
        folder: where to.
        number: of the signal.
        wait: `wait()` returns when the signal is to be sent.

    Returns:
        Whether the process had not finished.
    """
    began, begin = os.pipe()

    def run():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:  # the signal may come before the save has begun, or after it
            os.write(begin, b"!")
            save(model, folder, 150_000)
            os._exit(0)
        except KeyboardInterrupt:
            os._exit(1)

    child = in_child(run)
    os.read(began, 1)
    wait()
    os.kill(child, number)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(began)
    os.close(begin)
    assert code in (0, 1, -signal.SIGKILL)
    return code != 0


def seconds_of_a_save(model, folder: Path) -> float:
    """How long a save in five shards takes here."""
    begin = time.perf_counter()
    save(model, folder, 150_000)
    return time.perf_counter() - begin


def until_files_are_moved(folder: Path) -> None:
    """Returns when the journal is written, which ends the longer part of a save."""
    end = time.perf_counter() + 60
    while not any(folder.glob(f"{HIDDEN}*/{JOURNAL}")) and time.perf_counter() < end:
        pass


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill", "Ctrl-C"])
@pytest.mark.parametrize("phase", ["any time", "while files are moved"])
def test_a_save_that_is_ended_leaves_the_old_or_the_new_model(models, folder, number, phase):
    rng, counts = random.Random(0), Counter()
    old, new = models
    foreign = {name: (folder / name).read_bytes() for name in FOREIGN}
    takes = min(seconds_of_a_save(new, folder) for _ in range(5))
    for _ in range(KILLS):
        save(old, folder, 250_000)
        assert same_weights(minidream.load(folder, device="cpu"), old)
        assert not list(folder.glob(f"{HIDDEN}*"))

        def wait():
            if phase == "any time":
                time.sleep(rng.uniform(0, takes))
            else:
                until_files_are_moved(folder)
                time.sleep(rng.uniform(0, 0.01))

        was_ended = ended(new, folder, number, wait)
        hidden = list(folder.glob(f"{HIDDEN}*"))
        unfinished = any((path / JOURNAL).exists() for path in hidden)
        if number == signal.SIGINT:
            assert not hidden, "Ctrl-C leaves nothing behind"
        loaded = minidream.load(folder, device="cpu")
        is_old, is_new = same_weights(loaded, old), same_weights(loaded, new)
        assert is_old != is_new
        assert {name: (folder / name).read_bytes() for name in FOREIGN} == foreign
        found = "old" if is_old else "new, finished by load" if unfinished else "new"
        counts["ended" if was_ended else "not ended", found] += 1
        assert is_new or was_ended
    print(f"\n{signal.Signals(number).name}, {phase}: {dict(counts)}")
    assert {found for _, found in counts} >= ({"old", "new"} if phase == "any time" else {"new"})
