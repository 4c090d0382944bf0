"""Fine-tuning with several processes makes the steps of one, also where they share the weights."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import tuning_processes
import yaml
from tuning_shared import log_of, write_data, write_toy

import minidream
from minidream.trainer import sharding

SCRIPT = Path(tuning_processes.__file__)
CONFIGS = Path(minidream.__file__).parent / "configs" / "accelerate"


def in_processes(count: int, *arguments) -> None:
    """Runs the script in several processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count)]
    address = ["--master-addr", "127.0.0.1", "--master-port", port]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([*torchrun, *address, SCRIPT, *arguments], env=environment, check=True)


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> tuple[str, Path]:
    """A model, and data of which some captions are longer than others."""
    folder = tmp_path_factory.mktemp("given")
    captions = ["a rocket", "a red circle left of a blue rocket", "a star", "a cross above a ring"]
    return str(write_toy(folder / "toy", drop_prob=0.5)), write_data(folder / "data", captions)


@pytest.fixture(scope="module")
def folder(given, tmp_path_factory) -> Path:
    """What two processes leave."""
    folder = tmp_path_factory.mktemp("two")
    in_processes(2, "begin", folder, *given)
    return folder


@pytest.fixture(scope="module")
def one(given, tmp_path_factory) -> tuple[Path, list]:
    """What one process leaves, and its gradients."""
    folder = tmp_path_factory.mktemp("one")
    gradients = tuning_processes.run(folder / "whole", *given, steps=2)
    tuning_processes.run(folder / "stopped", *given, steps=4, stops=None)
    return folder, gradients


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of the model that a run left."""
    return minidream.load(folder / "model", device="cpu").state_dict()


@pytest.mark.parametrize("kind", ["whole", "shared out"])
def test_two_processes_give_the_gradients_of_one(kind, folder, one):
    _, expected = one
    for process in range(2):
        seen = torch.load(folder / f"seen-{process}.pt")[kind]
        assert len(seen) == len(expected) == 2
        for step, (theirs, ours) in enumerate(zip(seen, expected)):
            norm = torch.stack([gradient.norm() for gradient in ours]).norm()
            assert norm > 0 and len(theirs) == len(ours)
            for index, (gradient, mine) in enumerate(zip(theirs, ours)):
                # After a step, weights differ by rounding, and Adam makes more of it.
                limit = (1e-5, 1e-3)[step] * max(1, norm)
                assert (gradient - mine).abs().max() < limit, (step, index)


@pytest.mark.parametrize("run", ["whole", "shared"])
def test_two_processes_leave_the_model_of_one(run, folder, one):
    own, theirs = state_of(one[0] / "whole"), state_of(folder / run)
    assert own.keys() == theirs.keys()
    for name, tensor in own.items():
        torch.testing.assert_close(theirs[name], tensor, atol=2e-5, rtol=0)
    assert len(minidream.load(folder / run / "model").tokenizer) == len(own["llm.lm_head.weight"])


@pytest.mark.parametrize("run", ["stopped", "shared, stopped"])
def test_the_checkpoint_of_two_is_that_of_one(run, folder):
    saved = torch.load(folder / run / "tune.checkpoint.pt")
    assert saved["step"] == 2
    other = torch.load(folder / "stopped" / "tune.checkpoint.pt")
    assert saved["settings"] == other["settings"]
    for one, two in zip(saved["trained"], other["trained"], strict=True):
        assert type(one) is torch.Tensor
        torch.testing.assert_close(one, two, atol=1e-3, rtol=0)
    for index, state in other["optimizer"]["state"].items():
        for name, value in state.items():
            assert saved["optimizer"]["state"][index][name].shape == value.shape


def check_end(run: Path, expected: Path) -> None:
    """A run that went on is what one process does without a stop."""
    mine, theirs = log_of(run), log_of(expected)
    assert [line["step"] for line in mine] == [line["step"] for line in theirs] == [2, 4]
    for one, other in zip(mine, theirs):
        assert one["total"] == pytest.approx(other["total"], rel=1e-3)
    assert state_of(run).keys() == state_of(expected).keys()


@pytest.mark.parametrize("run", ["stopped", "shared, stopped"])
def test_a_checkpoint_of_two_goes_on_with_one(run, folder, given, one, tmp_path):
    shutil.copytree(folder / run, tmp_path / "run")
    tuning_processes.run(tmp_path / "run", *given, steps=4)
    check_end(tmp_path / "run", one[0] / "stopped")


def test_a_checkpoint_of_two_goes_on_with_four(folder, given, one, tmp_path):
    for run in ("whole", "shared"):  # the other way round: what was shared out goes on whole
        came_from = {"whole": "shared, stopped", "shared": "stopped"}[run]
        shutil.copytree(folder / came_from, tmp_path / run)
    in_processes(4, "go on", tmp_path, *given)
    for run in ("whole", "shared"):
        check_end(tmp_path / run, one[0] / "stopped")


def test_accelerate_reads_the_configs_that_ship(monkeypatch):
    from accelerate.commands.config.config_args import ClusterConfig

    for path in CONFIGS.glob("*.yaml"):
        config = ClusterConfig.from_yaml_file(path)
        assert config.mixed_precision == "bf16" and config.num_processes == 8
    shared = yaml.safe_load((CONFIGS / "fsdp2.yaml").read_text(encoding="utf-8"))
    assert shared["distributed_type"] == "FSDP" and shared["fsdp_config"]["fsdp_version"] == 2
    for version, wanted in (("2", True), ("1", None)):
        monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
        monkeypatch.setenv("FSDP_VERSION", version)
        monkeypatch.setenv("WORLD_SIZE", "2")
        if wanted:
            assert sharding.is_wanted()
        else:
            with pytest.raises(ValueError, match="version 1; version 2 is done here"):
                sharding.is_wanted()


def test_a_stage_that_cannot_be_shared_out_says_so():
    stage = torch.nn.Linear(2, 2)
    stage.name = "small"
    with pytest.raises(TypeError, match="the weights of stage small cannot be shared out"):
        sharding.shard(stage, torch.device("cpu"))
