"""A folder of pictures with their captions in `metadata.csv` or `metadata.jsonl`.

The format is that of ImageFolder in Hugging Face's library datasets ("Create an image dataset",
section "Image captioning"): a row for each picture, with its path relative to the folder in the
column `file_name`, and here its caption in `text`. Pictures without a row are not read.
"""

from pathlib import Path

from ..documents import Document
from .pictures import picture
from .reading import Reading, Share, opened, text_of
from .records import csv_records, folder_of, is_inside, json_line_records

NAMES = ("metadata.csv", "metadata.jsonl")
COLUMNS = ("file_name", "text")


def metadata(path: Path) -> list[Path]:
    """The metadata files of a folder, or a file itself if it is one."""
    if path.is_dir():
        return [path / name for name in NAMES if is_inside(path, name)]
    return [path] if path.name in NAMES else []


def recognises(path: Path) -> bool:
    """Whether a folder or a file looks like this format."""
    return bool(metadata(path))


def read(path, seed: int = 0, start: int = 0, process: int = 0, processes: int = 1) -> Reading:
    """Documents of a caption and the picture to be painted from it, all shuffled.

    For a picture to be described, turn one round: `Document(document.items[::-1], targets=[])`.

    Args:
        path: the folder, or its metadata file.
        seed, start, process, processes: as `Share`.

    Raises:
        FileNotFoundError: without a metadata file.
        TypeError, ValueError: as `Share` and `Records`; or for two metadata files.
    """
    share = Share(seed, start, process, processes)
    path, root = folder_of(path)
    files = metadata(path)
    if not files:
        raise FileNotFoundError(f"{path} has no {' or '.join(NAMES)}")
    if len(files) > 1:
        raise ValueError(f"{path} has both {' and '.join(NAMES)}: which one is meant?")
    (file,) = files
    if file.suffix == ".csv":
        records = csv_records(file, COLUMNS)
    else:
        records = json_line_records(files, COLUMNS)

    def document(record: dict) -> Document:
        name, text = (text_of(record, column) for column in COLUMNS)
        return Document(opened([text, picture(root, name)]), targets=[0])

    return records.reading(document, share)
