"""Stages side by side: which may run together, what each waits for, and what a failure does."""

import json
import sys

import pytest

from minidream.train import __main__ as command_line
from minidream.trainer import side_by_side
from minidream.trainer.side_by_side import built_on, run_side_by_side, waiting_for
from minidream.weights.parts import LEAVES, ORDER

# A stage that notes when it ran: it writes its own log, as a stage does, and fails if it is asked.
STAGE = """
import json, sys, time
from pathlib import Path

folder, fails, name = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
began = time.time()
time.sleep(60 if fails == "others" and name != "judge" else 0.2)
(folder / f"{name}.ran").write_text(json.dumps([began, time.time()]))
(folder / f"{name}.jsonl").write_text(json.dumps({"step": 5}))
sys.exit(3 if fails == "others" and name == "judge" else 0)
"""


def test_a_stage_waits_for_those_that_leave_what_it_starts_from():
    assert built_on("judge") == built_on("vae") == built_on("text") == built_on("llm") == set()
    assert built_on("unet") == {"vae", "text"} and built_on("clip") == {"text"}
    assert built_on("stage1") == {"clip", "vae", "unet", "lookup"}
    assert built_on("lookup") == {"llm"}
    assert built_on("stage3") == {"clip", "vae", "unet", "stage2"}
    assert waiting_for("judge") == waiting_for("stage3") == set()
    assert waiting_for("text") == {"unet", "clip", "stage1", "stage2", "stage3"}
    assert all(name in LEAVES for name in waiting_for("vae"))


@pytest.mark.parametrize("jobs", (1, 2, 3))
def test_every_stage_runs_once_after_those_that_it_needs(tmp_path, jobs):
    command = [sys.executable, "-c", STAGE, str(tmp_path), "none"]
    steps = dict.fromkeys(ORDER, 5)
    run_side_by_side(ORDER, jobs, command, tmp_path, steps, progress=False, every=0.02)
    ran = {name: json.loads((tmp_path / f"{name}.ran").read_bytes()) for name in ORDER}
    for name in ORDER:
        assert all(ran[earlier][1] <= ran[name][0] for earlier in built_on(name)), name
    at_once = max(
        sum(began <= moment < ended for began, ended in ran.values()) for moment, _ in ran.values()
    )
    assert at_once <= jobs


def test_if_one_fails_the_others_are_stopped(tmp_path):
    command = [sys.executable, "-c", STAGE, str(tmp_path), "others"]
    steps = dict.fromkeys(ORDER, 5)
    with pytest.raises(RuntimeError, match="stage judge ended with the status 3"):
        run_side_by_side(("judge", "vae"), 2, command, tmp_path, steps, False, every=0.02)
    assert [path.name for path in tmp_path.glob("*.ran")] == ["judge.ran"]


def test_steps_are_read_from_logs(tmp_path):
    steps = {"vae": 40}
    assert side_by_side.steps_done("vae", tmp_path, steps) == 0
    (tmp_path / "vae.jsonl").write_text("")
    assert side_by_side.steps_done("vae", tmp_path, steps) == 0
    (tmp_path / "vae.jsonl").write_text('{"step": 20}\n{"step": 30}\n')
    assert side_by_side.steps_done("vae", tmp_path, steps) == 30


def test_the_command_passes_its_options_on(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(command_line, "run_side_by_side", lambda *given: seen.append(given))
    monkeypatch.setattr(command_line.stages, "run", lambda name, *rest: None)
    options = ["--folder", str(tmp_path), "--seed", "4", "--steps", "2", "--jobs", "2"]
    command_line.main(["all", *options, "--compile", "--quiet"])
    ((names, jobs, command, folder, steps, progress),) = seen
    assert (names, jobs, folder, progress) == (ORDER, 2, tmp_path, False)
    assert steps == dict.fromkeys(ORDER, 2)
    parsed = command_line.parse(
        command_line.parser_for(command_line.Options, "", ""),
        command_line.Options,
        [*command[3:], "vae"],
    )
    assert (parsed.stage, parsed.folder, parsed.seed, parsed.steps) == ("vae", tmp_path, 4, 2)
    assert parsed.compile and parsed.quiet and parsed.jobs == 1


@pytest.mark.parametrize("arguments", (["all", "--jobs", "0"], ["vae", "--jobs", "2"]))
def test_jobs_that_make_no_sense_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        command_line.main(arguments)
    assert "--jobs is at least 1, and for 'all'" in capsys.readouterr().err
