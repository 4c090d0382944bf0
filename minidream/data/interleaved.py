"""What MMC4 and OBELICS share: web documents with pictures in them, one in each line of a file."""

from collections.abc import Callable
from pathlib import Path

from ..documents import Document
from .reading import Reading, Share, opened
from .records import files_in, first_json_line, folder_of, json_line_records


def shards(path: Path) -> list[Path]:
    """The JSON Lines files of a folder, or a file itself if it is one."""
    return [file for file in files_in(path, ".jsonl") if file.name != "metadata.jsonl"]


def first_has(path: Path, fields: tuple[str, ...]) -> bool:
    """Whether a folder or a file has JSON lines, the first of them with all fields."""
    files = shards(path)
    first = first_json_line(files[0]) if files else None
    return isinstance(first, dict) and first.keys() >= set(fields)


def joined(sentences: list[str]) -> list[str]:
    """Sentences as one text, in a list; an empty list if all are blank."""
    text = " ".join(sentence for sentence in sentences if sentence)
    return [text] if text else []


def read_lines(
    path, fields: tuple[str, ...], items_of: Callable[[dict, Path], list], share: Share
) -> Reading:
    """Interleaved documents, all shuffled. Pictures that follow text are to be painted.

    If one picture of a document cannot be used, the document is skipped: what is left of it would
    speak of what is not there.

    Args:
        path: a folder with .jsonl files, or one of them; pictures are in the folder or in its
            folder `images`.
        fields: what a document should have.
        items_of: makes items, as `opened` takes them, of a document and the resolved folder.
        share: which records, and in which order.

    Raises:
        FileNotFoundError: without a .jsonl file.
        ValueError: as `Records`.
    """
    path, root = folder_of(path)
    files = shards(path)
    if not files:
        raise FileNotFoundError(f"{path} has no .jsonl file with the fields {list(fields)}")

    def document(record: dict) -> Document:
        return Document(opened(items_of(record, root)))

    return json_line_records(files, fields).reading(document, share)
