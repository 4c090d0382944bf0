"""What the tests of fine-tuning share: models in folders, a few captioned pictures, short runs."""

import json
from dataclasses import replace
from pathlib import Path

from models_shared import TINY, untrained_toy
from PIL import Image

import minidream
from minidream.tuning import command

TINY_OPTIONS = [
    *("--model", str(TINY / "checkpoint")),
    *("--component-configs", str(TINY / "component_configs")),
]


def write_data(folder: Path, captions: list[str], broken: tuple[int, ...] = ()) -> Path:
    """An image folder; the pictures with some numbers are no pictures."""
    folder.mkdir(parents=True)
    rows = []
    for number, caption in enumerate(captions):
        path = folder / f"{number}.png"
        Image.new("RGB", (20, 20), (40 * number % 256, 10, 200)).save(path)
        if number in broken:
            path.write_bytes(b"no picture")
        rows.append(json.dumps({"file_name": path.name, "text": caption}) + "\n")
    (folder / "metadata.jsonl").write_text("".join(rows), encoding="utf-8")
    return folder


def write_toy(folder: Path, drop_prob: float = 0.1) -> Path:
    """An untrained toy in the official layout, with a share of conditions to be dropped."""
    model = untrained_toy()
    model.decoder.config = replace(model.decoder.config, drop_prob=drop_prob)
    minidream.save(model, folder)
    return folder


def tune(folder: Path, data: Path, *more: str, tasks=None) -> None:
    """The command, with few steps."""
    given = ["--data", str(data), "--folder", str(folder), "--quiet", "--batch", "4"]
    command.main([*given, *more], tasks)


def log_of(folder: Path) -> list[dict]:
    """The lines of a run's log."""
    return [json.loads(line) for line in (folder / "tune.jsonl").read_text().splitlines()]
