"""The results files of long runs: read again to go on, and written with what they were made with."""

import json
import os
import platform
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import torch


def load_results(path: Path, plan=None) -> dict:
    """The results so far, of any plan; if one is given, none yet is fine, and another plan's raise ValueError (both plans)."""
    if plan is not None and not path.exists():
        return {"plan": asdict(plan), "runs": []}
    results = json.loads(path.read_text())
    if plan is not None and results["plan"] != asdict(plan):
        raise ValueError(
            f"{path} holds runs of another plan ({results['plan']}, not {asdict(plan)}); choose another --out and --folder, or delete it"
        )
    return results


def circumstances() -> dict:
    """What a run was made with: code, torch, threads, machine."""
    root, code = Path(__file__).parents[2], "no checkout"
    if (root / ".git").exists() and shutil.which("git"):
        code = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True
        ).stdout.strip()
    return {
        "code": code,
        "torch": torch.__version__.split("+")[0],
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {'CUDA' if torch.cuda.is_available() else 'CPU'}",
    }


def as_text(results: dict) -> str:
    """JSON with a line per run, so that it can be read and compared."""
    head = json.dumps({key: value for key, value in results.items() if key != "runs"}, indent=1)[
        :-2
    ]
    return (
        head
        + ',\n "runs": [\n'
        + ",\n".join("  " + json.dumps(done) for done in results["runs"])
        + "\n ]\n}\n"
    )
