"""`import minidream`: what it offers, and what it does not import before it is needed."""

import subprocess
import sys

import pytest

import minidream

# Each of these takes seconds to import, or belongs to a room that nobody has asked for yet.
LATER = (
    *("transformers", "diffusers", "accelerate", "captum", "matplotlib", "ipywidgets", "IPython"),
    *(
        "scipy",
        "minidream.data",
        "minidream.probe",
        "minidream.plots",
        "minidream.train",
        "minidream.weights",
    ),
)


def imported_by(code: str) -> set[str]:
    """The modules that a fresh Python holds after some code."""
    code += "\nimport sys\nprint(*sys.modules, sep='\\n')"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    return set(run.stdout.split())


def test_importing_minidream_imports_torch_and_little_else():
    found = imported_by("import minidream\nminidream.Document(['a star'])\nminidream.DreamLLM")
    assert "torch" in found and "minidream.model" in found
    assert found.isdisjoint(LATER), sorted(found.intersection(LATER))


def test_loading_the_toy_imports_no_figures_no_probes_and_no_training():
    found = imported_by("import minidream\nminidream.load('toy', device='cpu')")
    assert {"transformers", "diffusers"} <= found
    unwanted = {"matplotlib", "ipywidgets", "captum", "minidream.probe", "minidream.train"}
    assert found.isdisjoint(unwanted), sorted(found.intersection(unwanted))


def test_every_public_name_is_there():
    assert set(minidream.__all__) <= set(dir(minidream))
    assert {"dream_attention", "watch_image", "two_hop"} <= set(dir(minidream.probe))
    for name in minidream.__all__:
        assert getattr(minidream, name) is not None
    with pytest.raises(AttributeError, match="'minidream' has no attribute 'paint'"):
        minidream.paint


@pytest.mark.parametrize("chosen", ["ci", "cpu", "gpu"])
def test_the_budget_is_what_the_environment_says(monkeypatch, chosen):
    monkeypatch.setenv("MINIDREAM_BUDGET", chosen)
    assert minidream.budget() == chosen


@pytest.mark.parametrize("unset", ["", None])
@pytest.mark.parametrize("has_gpu, expected", [(True, "gpu"), (False, "cpu")])
def test_without_it_the_hardware_decides(monkeypatch, unset, has_gpu, expected):
    monkeypatch.delenv("MINIDREAM_BUDGET", raising=False)
    if unset is not None:
        monkeypatch.setenv("MINIDREAM_BUDGET", unset)
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_gpu)
    assert minidream.budget() == expected


def test_an_unknown_budget_is_refused(monkeypatch):
    monkeypatch.setenv("MINIDREAM_BUDGET", "tpu")
    with pytest.raises(ValueError, match='"ci", "cpu" or "gpu", not \'tpu\''):
        minidream.budget()
