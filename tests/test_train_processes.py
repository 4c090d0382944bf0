"""Two processes that train together make the steps of one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import two_processes
from safetensors.torch import load_file

from minidream.trainer.loop import fit
from minidream.trainer.processes import SharedStage
from minidream.weights import parts

SCRIPT = Path(two_processes.__file__)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What `two_processes.py` leaves."""
    folder = tmp_path_factory.mktemp("two")
    two_processes.untrained_parts(folder / "toy")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    address = ["--master-addr", "127.0.0.1", "--master-port", port]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([*torchrun, *address, SCRIPT, folder], env=environment, check=True)
    return folder


@pytest.fixture(scope="module")
def seen(folder) -> list[dict]:
    """What each of the two processes saw."""
    return [torch.load(folder / f"seen-{process}.pt") for process in range(2)]


@pytest.mark.parametrize("name", two_processes.STAGES)
def test_two_processes_give_the_gradients_of_one(name, seen, tmp_path):
    one = two_processes.gradients_of(name, tmp_path)
    first, second = (process[name] for process in seen)
    assert [sum(halves) for halves in zip(first["samples"], second["samples"])] == one["samples"]
    for process in (first, second):
        for step, (theirs, ours) in enumerate(zip(process["gradients"], one["gradients"])):
            assert theirs.keys() == ours.keys()
            norm = torch.stack([gradient.norm() for gradient in ours.values()]).norm()
            assert norm > 0
            for key, gradient in ours.items():
                difference = (theirs[key] - gradient).abs().max()
                assert difference < 3e-5 * max(1, norm), (step, key)
    for theirs, ours in zip(first["log"], one["log"], strict=True):
        theirs, ours = ({**line, "samples_per_second": 0} for line in (theirs, ours))
        assert theirs == pytest.approx(ours, rel=1e-4, abs=2e-6)


def test_a_stage_of_ones_own_learns_from_the_batches_of_all_processes(seen, tmp_path):
    one = two_processes.TwoHeads([0, 1])
    fit(one, tmp_path, progress=False)
    for process in seen:
        for key, value in one.state_dict().items():
            torch.testing.assert_close(process["two heads"][key], value, atol=1e-5, rtol=0)


def test_a_loss_that_is_not_finite_on_one_process_stops_both(seen):
    for process in seen:
        assert process["error"] == "stage two-heads: the loss 'total' is nan at step 3"


def test_only_the_main_process_writes_and_prints(folder, seen):
    assert seen[0]["printed"].count("stage3: finished before") == 1 and not seen[1]["printed"]
    (line,) = (folder / "toy" / "stage3.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] == 3
    before, after = (
        load_file(folder / "toy" / f"{stage}.dream_queries.safetensors")
        for stage in ("stage2", "stage3")
    )
    assert any(not torch.equal(before[key], after[key]) for key in before)
    for part in parts.LEAVES["stage3"]:
        assert (folder / "toy" / f"stage3.{part}.safetensors").exists()
    assert not list(folder.rglob("*.tmp"))


def test_a_run_of_two_processes_goes_on_with_one(folder, tmp_path):
    assert torch.load(folder / "stopped" / "line.checkpoint.pt")["step"] == 20
    resumed, whole = two_processes.Line(), two_processes.Line()
    logs = [
        fit(stage, path, progress=False)
        for stage, path in ((resumed, folder / "stopped"), (whole, tmp_path))
    ]
    for one, other in zip(resumed.parameters(), whole.parameters()):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    assert [line["step"] for line in logs[0]] == [20, 40]
    for one, other in zip(*logs):
        assert one["total"] == pytest.approx(other["total"], abs=2e-6)


def test_a_batch_that_is_too_small_for_the_processes_is_refused():
    with pytest.raises(ValueError, match="3 processes cannot share a batch of 2"):
        SharedStage().share((torch.zeros(2, 5), [1, 2]), slice(0, None, 3))
