"""The data readers for `make bench`, compared with what one would use instead.

That is the library datasets, where it has a reader of the format and is installed, and otherwise
reading the same files with json, csv or tarfile, and decoding the pictures with Pillow. Neither
checks anything.
"""

import csv
import importlib.util
import io
import json
import sys
import tarfile
import tempfile
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from PIL import Image

from minidream import data

sys.path.append(str(Path(__file__).parents[1]))  # where the tests have what writes such folders
import data_shared  # noqa: E402

SIZE = (64, 64)  # of pictures, in pixels


def used_up(items: Iterable) -> None:
    """Takes all items, and keeps none."""
    deque(items, maxlen=0)


def rgb(file) -> Image.Image:
    """A decoded picture."""
    with Image.open(file) as image:
        return image.convert("RGB")


def csv_and_pillow(folder: Path):
    """Captions and pictures of an image folder."""
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield row["text"], rgb(folder / row["file_name"])


def tarfile_and_pillow(folder: Path):
    """Captions and pictures of tar files in which the picture comes first."""
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard, encoding="utf-8") as tar:
            members = (tar.extractfile(member).read() for member in tar)
            for picture, caption in zip(members, members):
                yield caption.decode("utf-8"), rgb(io.BytesIO(picture))


def conversations_and_pillow(folder: Path):
    """Turns and pictures of LLaVA's conversations."""
    for record in json.loads((folder / "conversations.json").read_bytes()):
        yield record["conversations"], rgb(folder / "images" / record["image"])


def lines_and_pillow(folder: Path):
    """Documents of JSON lines and their pictures."""
    for shard in sorted(folder.glob("*.jsonl")):
        with shard.open(encoding="utf-8") as file:
            for record in map(json.loads, file):
                names = record.get("images") or [
                    info["image_name"] for info in record["image_info"]
                ]
                yield record, [rgb(folder / "images" / name) for name in names if name]


def datasets_reader(kind: str, folder: Path):
    """Rows with decoded pictures, as a stream."""
    import datasets

    for row in datasets.load_dataset(kind, data_dir=str(folder), split="train", streaming=True):
        (image,) = [value for value in row.values() if isinstance(value, Image.Image)]
        yield row, image.convert("RGB")


PEERS = {
    "imagefolder, csv": (csv_and_pillow, "csv and Pillow", "imagefolder"),
    "webdataset": (tarfile_and_pillow, "tarfile and Pillow", "webdataset"),
    "llava": (conversations_and_pillow, "json and Pillow", None),
    "mmc4": (lines_and_pillow, "json and Pillow", None),
    "obelics": (lines_and_pillow, "json and Pillow", None),
}


def sides(name: str, peer: Callable[[Path], Iterable], records: int):
    """Both ways to read a fresh folder of a format, which is removed at the end of the program."""
    folder = tempfile.TemporaryDirectory(prefix="minidream-bench-")
    data_shared.SIZE = SIZE
    path = data_shared.WRITERS[name](Path(folder.name), records)

    def our_way() -> None:
        # `folder` is removed once nothing refers to it any more.
        used_up(data.documents(path if folder else None))

    return our_way, lambda: used_up(peer(path))


def reading(records: int) -> dict[str, Callable]:
    """Comparisons by name, as in `bench.COMPARISONS`: all records of a folder, one after another.

    Args:
        records: in each folder.
    """
    found = {}
    installed = importlib.util.find_spec("datasets") is not None
    for name, (plain, called, kind) in PEERS.items():
        peer = partial(datasets_reader, kind) if kind and installed else plain
        other = "datasets" if kind and installed else called
        found[f"reading {records:,} records of {name} / {other}"] = partial(
            sides, name, peer, records
        )
    return found
