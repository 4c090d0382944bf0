"""The command line: `minidream demo`, `notebooks`, `doctor`, `train` and `weights`."""

import subprocess
import sys

import nbformat
import pytest
import torch

import minidream
from minidream import __main__ as command_line
from minidream.course import doctor, notebooks
from minidream.weights.loading import as_device

# --------------------------------------------------------------------------------------------------
# Commands


def test_help_lists_all_commands_and_an_unknown_one_is_refused(capsys):
    for arguments in ([], ["--help"], ["-h"]):
        command_line.main(arguments)
        printed = capsys.readouterr().out
        assert all(f"\n  {name} " in printed for name in command_line.COMMANDS)
    with pytest.raises(SystemExit, match="there is no command 'paint'"):
        command_line.main(["paint"])


@pytest.mark.parametrize("name", command_line.COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        command_line.main([name, "--help"])
    assert stopped.value.code == 0 and "usage:" in capsys.readouterr().out


def test_the_module_runs_as_the_script_does():
    done = subprocess.run(
        [sys.executable, "-m", "minidream", "doctor", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "minidream doctor" in done.stdout


# --------------------------------------------------------------------------------------------------
# Notebooks


def test_notebooks_are_copied_and_own_changes_are_kept(tmp_path, capsys):
    folder = tmp_path / "mine"
    copied = notebooks.copy_to(folder)
    assert [path.name for path in copied] == sorted(path.name for path in folder.iterdir())
    assert folder / notebooks.FIRST in copied and len(copied) >= 13
    (folder / notebooks.FIRST).write_text("changed", encoding="utf-8")
    copied[1].unlink()
    notebooks.main([str(folder), "--no-lab"])
    assert f"1 notebooks copied to {folder}, {len(copied) - 1} left" in capsys.readouterr().out
    assert (folder / notebooks.FIRST).read_text(encoding="utf-8") == "changed"
    assert copied[1].exists()


def test_copies_for_students_have_no_outputs(tmp_path):
    notebooks.main([str(tmp_path), "--student", "--no-lab"])
    for path in notebooks.shipped():
        whole, copy = (nbformat.read(place, as_version=4) for place in (path, tmp_path / path.name))
        nbformat.validate(copy)
        assert [cell.source for cell in copy.cells] == [cell.source for cell in whole.cells]
        code = [cell for cell in copy.cells if cell.cell_type == "code"]
        assert code and not any(cell.outputs or cell.execution_count for cell in code)


def test_the_lab_opens_the_first_notebook(tmp_path, monkeypatch):
    started = []

    def run(command):
        started.append(command)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(notebooks.subprocess, "run", run)
    with pytest.raises(SystemExit) as stopped:
        notebooks.main([str(tmp_path)])
    assert stopped.value.code == 3
    assert started == [[sys.executable, "-m", "jupyterlab", str(tmp_path / notebooks.FIRST)]]


def test_a_package_without_notebooks_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(notebooks, "data_folder", lambda *_: tmp_path)
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} holds no notebooks"):
        notebooks.shipped()


# --------------------------------------------------------------------------------------------------
# Devices


@pytest.mark.parametrize(
    "cuda, mps, chosen",
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_fastest_device_is_the_default(cuda, mps, chosen, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert as_device(None) == torch.device(chosen)


def test_the_cpu_agrees_with_itself():
    compared = doctor.compared("cpu")
    assert [each.name for each in compared] == list(doctor.RESULTS)
    assert all(each.difference == 0 for each in compared)


def wrong_device(change):
    """`minidream.load`, with what is wrong on every device but the CPU."""
    load = minidream.load

    def wrongly(name, device):
        model = load(name, device="cpu")
        if device != "cpu":
            change(model)
        return model

    return wrongly


def scaled(model) -> None:
    """One matrix is wrong by a per cent."""
    model.llm.layers[2].mlp.down_proj.weight.data *= 1.01


def not_a_number(model) -> None:
    """A layer of the U-Net gives nan."""
    model.decoder.unet.conv_out.bias.data[0] = torch.nan


def late(model) -> None:
    """Only the VAE's last layer is wrong."""
    model.decoder.vae.decoder.conv_out.bias.data += 0.1


@pytest.mark.parametrize(
    "change, wrong",
    [
        (scaled, {"states of the queries"}),
        (not_a_number, {"losses", "gradients", "pictures"}),
        (late, {"pictures"}),
    ],
)
def test_a_device_that_is_silently_wrong_is_refused(change, wrong, monkeypatch, capsys):
    monkeypatch.setattr(minidream, "load", wrong_device(change), raising=False)
    compared = doctor.compared("mps")
    assert {each.name for each in compared if not each.agrees} >= wrong - {"gradients"}
    if change is late:
        assert {each.name for each in compared if not each.agrees} == wrong
    well, words = doctor.verdict({"mps": compared, "cuda:0": doctor.compared("cpu")})
    assert not well and "do not use mps: load models with" in words and "version of torch" in words


def test_the_command_says_what_is_here_and_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "devices", lambda: [])
    with pytest.raises(SystemExit) as stopped:
        doctor.main([])
    printed = capsys.readouterr().out
    assert stopped.value.code == 0 and "all is well: the toy runs on the CPU" in printed
    assert f"torch {doctor.installed()['torch']}" in printed and "cores" in printed
    with pytest.raises(SystemExit) as stopped:
        doctor.main(["--devices", "cuda:99"])
    printed = capsys.readouterr().out
    assert stopped.value.code == 1 and "cuda:99: ValueError: device 'cuda:99' cannot" in printed
    assert "do not use cuda:99" in printed


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", ["torch", "no-such-package"])
    assert doctor.installed()["no-such-package"] == "missing"
