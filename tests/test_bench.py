"""The arithmetic of `make bench`: medians of pairwise ratios, and which side is timed first."""

import importlib.util
import itertools
from pathlib import Path

import data_readers
import data_shared
import pytest
import torch
from PIL import Image

from minidream import data

PATH = Path(__file__).parent / "benchmarks" / "bench.py"
SPEC = importlib.util.spec_from_file_location("bench", PATH)
bench = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(bench)


def test_the_interval_of_a_median_by_hand():
    """Of 15 values, the 4th and the 12th enclose the median with 96.5 % (from a binomial table)."""
    values = [float(value) for value in range(1, 16)]
    assert bench.median_interval(values[::-1]) == (8.0, 4.0, 12.0)
    assert bench.median_interval(values[:6]) == (3.5, 1.0, 6.0)


def test_both_sides_are_timed_in_turn_and_each_comes_first_as_often(monkeypatch):
    calls, clock = [], itertools.count()
    monkeypatch.setattr(bench.time, "perf_counter", lambda: float(next(clock)))
    found = bench.compare((lambda: calls.append("a"), lambda: calls.append("b")), pairs=4)
    assert "".join(calls) == "ab" + "abba" * 2
    assert found == {"ratio": 1, "low": 1, "high": 1, "ours, s": 1, "theirs, s": 1}


def test_the_ratio_is_the_median_of_the_pairs_not_the_ratio_of_the_medians(monkeypatch):
    durations = iter([1, 2, 8, 4, 3, 12])  # ours, theirs; theirs, ours; ours, theirs
    monkeypatch.setattr(bench, "seconds", lambda work: float(next(durations)))
    found = bench.compare((lambda: None, lambda: None), pairs=3)
    assert found["ratio"] == 0.5 and found["ours, s"] == 3.0 and found["theirs, s"] == 8.0


def test_both_sides_of_a_comparison_compute_the_same():
    ours, theirs = bench.llm_forward()
    torch.testing.assert_close(ours(), theirs(), atol=1e-4, rtol=1e-4)
    recorded, whole = (side() for side in bench.recording())
    assert len(recorded) == len(whole) == bench.SIZES["num_hidden_layers"]
    for rows, attention in zip(recorded, whole):
        torch.testing.assert_close(rows, attention[:, :, bench.ROWS], atol=1e-5, rtol=1e-4)
    ours, theirs = (side() for side in bench.denoising())
    torch.testing.assert_close(ours, torch.as_tensor(theirs.images), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", data_readers.PEERS)
def test_data_readers_are_compared_over_the_same_pictures(tmp_path, name):
    folder = data_shared.WRITERS[name](tmp_path, 7)
    peer, _, _ = data_readers.PEERS[name]
    theirs = [row[1][0] if isinstance(row[1], list) else row[1] for row in peer(folder)]
    ours = [document.images[0] for document in data.documents(folder)]
    assert sorted(map(Image.Image.tobytes, theirs)) == sorted(map(Image.Image.tobytes, ours))
    assert len(ours) == 7


def test_a_reader_is_timed_over_as_many_records_as_were_asked_for(monkeypatch):
    used = []
    monkeypatch.setattr(data_readers, "used_up", lambda items: used.append(len(list(items))))
    monkeypatch.setattr(data_shared, "SIZE", data_shared.SIZE)  # the benchmark sets another
    for name, sides in data_readers.reading(9).items():
        assert name.startswith("reading 9 records of ")
        ours, _ = sides()
        ours()
    assert used == [9] * len(data_readers.PEERS)
