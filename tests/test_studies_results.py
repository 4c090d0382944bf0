"""Results files: resumed, never mixed with another plan, written after every run."""

import json
from dataclasses import dataclass

import pytest

from minidream.studies import __main__ as command
from minidream.studies import results
from minidream.studies.results import ResultsFile, command_of, load_results, runs_where


@dataclass(frozen=True)
class TinyPlan:
    """A plan of two numbers."""

    steps: int = 3
    batch: int = 5


def run(name, seed):
    """A run that says only what it is."""
    return {"name": name, "seed": seed}


def test_a_stopped_command_resumes_with_the_run_that_is_missing(tmp_path):
    file = ResultsFile(tmp_path / "new" / "out.json", TinyPlan(), keys=("name", "seed"))
    wanted, made = [("b", 1), ("a", 1), ("a", 0)], []

    def stops(name, seed):
        if (name, seed) == ("a", 0):
            raise KeyboardInterrupt
        return made.append((name, seed)) or run(name, seed)

    with pytest.raises(KeyboardInterrupt):
        file.complete(wanted, stops, lambda runs: {"count": len(runs)}, progress=False)
    stored = json.loads(file.path.read_bytes())
    assert stored["count"] == 2 and stored["runs"] == [run("b", 1), run("a", 1)]

    def resumes(name, seed):
        return made.append((name, seed)) or run(name, seed)

    found = file.complete(wanted, resumes, lambda runs: {"count": len(runs)}, progress=False)
    assert made == wanted  # each once, in this order
    assert found == json.loads(file.path.read_bytes()) == load_results(file.path, TinyPlan())
    assert list(found) == ["plan", "count", "runs"]


def test_two_commands_share_a_folder(tmp_path):
    keys, folder = ("name", "seed"), tmp_path / "runs"
    first = ResultsFile(tmp_path / "out.json", TinyPlan(), keys, folder)
    second = ResultsFile(tmp_path / "out.json", TinyPlan(), keys, folder)
    first.write_run(run("b", 0))  # the other command has not written the JSON file yet
    found = second.complete([("a", 1)], run, lambda runs: {}, progress=False)
    assert found["runs"] == [run("a", 1), run("b", 0)]  # sorted by their keys
    other = ResultsFile(tmp_path / "else.json", TinyPlan(steps=9), keys, folder)
    assert other.runs() == []


def test_another_plan_is_refused(tmp_path):
    path = tmp_path / "out.json"
    assert load_results(path, TinyPlan()) == {"plan": {"steps": 3, "batch": 5}, "runs": []}
    ResultsFile(path, TinyPlan(), ("seed",)).write([], lambda runs: {})
    with pytest.raises(ValueError, match=r"another plan \(\{'steps': 3.*not \{'steps': 4"):
        load_results(path, TinyPlan(steps=4))
    assert load_results(path)["runs"] == []


def test_a_command_names_the_plan_unless_it_is_the_usual_one():
    start = "python -m minidream.studies x --seeds 0 1"
    assert command_of("x", (0, 1), TinyPlan()) == start
    assert command_of("x", (0, 1), TinyPlan(batch=2)) == f"{start} --steps 3 --batch 2"


def test_runs_are_found_by_their_fields():
    found = {"runs": [run("a", 2), run("b", 0), run("a", 1)]}
    assert runs_where(found, name="a") == [run("a", 1), run("a", 2)]
    with pytest.raises(ValueError, match=r"no run of 'c' in these results; there are \['a', 'b'\]"):
        runs_where(found, name="c")


def test_circumstances_without_a_checkout(monkeypatch):
    monkeypatch.setattr(results.shutil, "which", lambda name: None)
    found = results.circumstances()
    assert found["code"] == "no checkout" and set(found) == {"code", "torch", "threads", "machine"}
    assert "+" not in found["torch"] and found["threads"] >= 1


def test_the_command_of_all_studies(monkeypatch, capsys):
    seen = []
    monkeypatch.setitem(command.STUDIES, "probing", (seen.append, "about"))
    command.main(["probing", "--help", "--seeds", "3"])
    assert seen == [["--help", "--seeds", "3"]]  # the options are the study's own
    for arguments, status, words in (
        (["--help"], 0, "STUDY --help lists the options of one"),
        (["nothing"], 2, "invalid choice: 'nothing'"),
        ([], 2, "the following arguments are required: STUDY"),
    ):
        with pytest.raises(SystemExit) as stopped:
            command.main(arguments)
        output = capsys.readouterr()
        assert stopped.value.code == status and words in output.out + output.err


@pytest.mark.parametrize("study", command.STUDIES)
def test_every_study_has_help(study, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main([study, "--help"])
    assert stopped.value.code == 0
    assert f"usage: python -m minidream.studies {study}" in capsys.readouterr().out


def test_a_run_of_another_plan_in_the_folder_is_not_overwritten(tmp_path):
    keys, folder = ("name", "seed"), tmp_path / "runs"
    ResultsFile(tmp_path / "one" / "out.json", TinyPlan(), keys, folder).write_run(run("b", 0))
    (stored,) = folder.glob("*/out.json")
    before, made = stored.read_bytes(), []
    other = ResultsFile(tmp_path / "two" / "out.json", TinyPlan(steps=9), keys, folder)
    with pytest.raises(
        ValueError, match=r"out\.json.*another plan \(\{'steps': 3.*not \{'steps': 9"
    ):
        other.complete([("a", 0), ("b", 0)], lambda *key: made.append(key), dict, progress=False)
    assert not made and stored.read_bytes() == before


@pytest.mark.parametrize("blocked", ["the file", "its folder", "a link to nowhere"])
def test_results_that_cannot_be_written_are_found_before_the_first_run(blocked, tmp_path):
    path, made = tmp_path / "results" / "out.json", []
    if blocked == "the file":
        path.mkdir(parents=True)
    elif blocked == "its folder":
        path.parent.write_text("a file")
    else:
        path.parent.mkdir()
        path.symlink_to(tmp_path / "not there" / "out.json")
    file = ResultsFile(path, TinyPlan(), keys=("name", "seed"))
    with pytest.raises((OSError, ValueError), match="results"):
        file.complete([("a", 0)], lambda *key: made.append(key), dict, progress=False)
    assert not made


@pytest.mark.parametrize("content", ['{"plan": {"steps": 3, "batch": 5}, "ru', "", "{}"])
def test_a_damaged_results_file_is_named(content, tmp_path):
    path = tmp_path / "out.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"out\.json"):
        load_results(path, TinyPlan())
    assert path.read_text() == content


def test_studies_are_not_run_by_several_processes_at_once(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as stopped:
        command.main(["probing"])
    assert stopped.value.code == 2 and "in one process" in capsys.readouterr().err
