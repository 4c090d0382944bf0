"""The results files of long runs: read to be resumed, and written with how they were made.

A results file is JSON: the plan, the command, and a list of runs. Each run is identified by some of
its fields, such as a family and a seed, and the file is written anew after every run. A command
that was stopped therefore resumes with the first run that is missing.
"""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from ..weights.files import PACKAGE, check_writable, data_folder, read_json, write_atomically

COMMITTED = data_folder("results", "notebooks/results")  # what the notebooks read
# Where studies write: the same folder in a clone, but nothing into an installed package.
WRITTEN = Path("runs/results") if COMMITTED.is_relative_to(PACKAGE) else COMMITTED


@dataclass(frozen=True)
class ResultsFile:
    """The results of one study under one plan, to be completed run by run.

    Attributes:
        path: the JSON file.
        plan: a dataclass with what all runs share; the runs of another plan are refused.
        keys: the fields of a run that identify it.
        folder: where each run also leaves a file of its own, so that several commands can work at
            the same time: the one that writes last includes the runs of all others. None if runs
            are kept in the JSON file alone.
    """

    path: Path
    plan: Any
    keys: tuple[str, ...]
    folder: Path | None = None

    def runs(self) -> list[dict]:
        """The finished runs. Those of a folder are sorted by their keys, others keep their order.

        Raises:
            ValueError: if the file holds the runs of another plan, or is damaged.
        """
        runs = load_results(self.path, self.plan)["runs"]
        if self.folder is None:
            return runs
        files = [read_json(path) for path in self.folder.glob(f"*/{self.path.name}")]
        runs += [file["run"] for file in files if file["plan"] == asdict(self.plan)]
        by_key = {self.key(done): done for done in runs}
        return [by_key[key] for key in sorted(by_key)]

    def key(self, done: dict) -> tuple:
        """What identifies a run."""
        return tuple(done[name] for name in self.keys)

    def complete(
        self,
        wanted: list[tuple],
        run: Callable[..., dict],
        describe: Callable[[list[dict]], dict],
        progress: bool = True,
    ) -> dict:
        """Makes the runs that are missing, and writes the file after each of them.

        Args:
            wanted: the keys of all runs that there should be.
            run: makes one, from its key.
            describe: what the file says before the runs, from all runs that are finished.
            progress: show a bar.

        Returns:
            The results as they are in the file.

        Raises:
            ValueError: if the file, or the folder's file of a run that is missing, was made under
                another plan (both plans).
            OSError: if the file cannot be written. Both are found before the first run.
        """
        runs = self.runs()
        finished = {self.key(done) for done in runs}
        missing = [key for key in wanted if key not in finished]
        if missing:
            check_writable(self.path)
        for key in missing if self.folder is not None else ():
            load_results(self.run_file(key), self.plan)
        for key in (bar := tqdm(missing, disable=not progress)):
            *names, last = key
            bar.set_description(f"{' '.join(names)}, {self.keys[-1]} {last}")
            done = run(*key)
            if self.folder is None:
                runs.append(done)
            else:
                self.write_run(done)
                runs = self.runs()
            self.write(runs, describe)
        return self.content(runs, describe)

    def content(self, runs: list[dict], describe: Callable[[list[dict]], dict]) -> dict:
        """The results as the file holds them."""
        return {"plan": asdict(self.plan), **describe(runs), "runs": runs}

    def write(self, runs: list[dict], describe: Callable[[list[dict]], dict]) -> None:
        """Writes the file."""
        text = as_text(self.content(runs, describe))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(lambda path: path.write_text(text, encoding="utf-8"), self.path)

    def write_run(self, done: dict) -> None:
        """Writes one run into the folder, with its plan."""
        text = json.dumps({"plan": asdict(self.plan), "run": done})
        own = self.run_file(self.key(done))
        own.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(lambda path: path.write_text(text, encoding="utf-8"), own)

    def run_file(self, key: tuple) -> Path:
        """The file of one run in the folder."""
        return self.folder / "-".join(map(str, key)) / self.path.name


def load_results(path: Path, plan=None) -> dict:
    """The results so far.

    Args:
        path: the JSON file.
        plan: a dataclass; with one, a missing file means that there are no runs yet. None accepts
            any plan.

    Raises:
        ValueError: if the file holds runs of another plan (both plans), or is damaged.
    """
    if plan is not None and not path.exists():
        return {"plan": asdict(plan), "runs": []}
    results = read_json(path)
    if plan is not None and results.get("plan") != asdict(plan):
        raise ValueError(
            f"{path} holds runs of another plan ({results.get('plan')}, not {asdict(plan)}); "
            "choose another --out and --folder, or delete it"
        )
    return results


def runs_where(results: dict, **fields) -> list[dict]:
    """The runs whose fields have these values, by seed.

    Raises:
        ValueError: if there is none (what there is).
    """
    found = [run for run in results["runs"] if all(run[name] == fields[name] for name in fields)]
    if not found:
        wanted = ", ".join(map(repr, fields.values()))
        present = sorted({tuple(run[name] for name in fields) for run in results["runs"]})
        listed = [key[0] if len(key) == 1 else key for key in present]
        raise ValueError(f"no run of {wanted} in these results; there are {listed}")
    return sorted(found, key=lambda run: run["seed"])


def command_of(study: str, seeds, plan) -> str:
    """The command that makes a results file; a plan that is not the default one is part of it."""
    options = [f"--{name} {value}" for name, value in asdict(plan).items() if plan != type(plan)()]
    return " ".join(["python -m minidream.studies", study, "--seeds", *map(str, seeds), *options])


def machine() -> str:
    """Processor, cores, and whether there is a GPU."""
    device = "CUDA" if torch.cuda.is_available() else "CPU"
    return f"{platform.machine()}, {os.cpu_count()} cores, {device}"


def torch_version() -> str:
    """The version of torch, without the name of its build."""
    return torch.__version__.split("+")[0]


def circumstances() -> dict:
    """What a run was made with: code, torch, threads, machine."""
    root, code = Path(__file__).parents[2], "no checkout"
    if (root / ".git").exists() and shutil.which("git"):
        describe = ["git", "describe", "--always", "--dirty"]
        code = subprocess.run(
            describe, cwd=root, capture_output=True, encoding="utf-8"
        ).stdout.strip()
    return {
        "code": code,
        "torch": torch_version(),
        "threads": torch.get_num_threads(),
        "machine": machine(),
    }


def as_text(results: dict) -> str:
    """JSON with one line for each run, so that it can be read and compared."""
    head = json.dumps({key: value for key, value in results.items() if key != "runs"}, indent=1)
    runs = ",\n".join("  " + json.dumps(done) for done in results["runs"])
    return f'{head[:-2]},\n "runs": [\n{runs}\n ]\n}}\n'
