"""Small folders of each format, with a picture in each record that says which record it is."""

import io
import json
import tarfile
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from minidream.data import pictures

COUNT = 23  # records of a folder: a prime, so that no number of processes divides it


SIZE = (5, 3)  # of pictures, not square


def colour_of(record: int) -> tuple[int, int, int]:
    """The colour of a record's picture; the first 256 records differ."""
    return (record % 256, 255 - record % 256, 7)


def picture_bytes(record: int, kind: str = "PNG", size=None) -> bytes:
    """A picture of one colour, which says which record it belongs to."""
    stream = io.BytesIO()
    Image.new("RGB", size or SIZE, colour_of(record)).save(stream, kind)
    return stream.getvalue()


def write_pictures(folder: Path, count: int = COUNT) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for record in range(count):
        (folder / f"{record}.png").write_bytes(picture_bytes(record))


def write_lines(path: Path, records: list) -> None:
    lines = "".join(json.dumps(record) + "\n" for record in records)
    path.write_text(lines, encoding="utf-8")


def write_tar(path: Path, members: list) -> None:
    """A tar file of (name, bytes), or of TarInfo without a content."""
    with tarfile.open(path, "w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            name, content = member
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def sample_members(record: int) -> list:
    """A picture and its caption."""
    caption = f"caption {record}".encode()
    return [(f"{record:04}.png", picture_bytes(record)), (f"{record:04}.txt", caption)]


def mmc4_record(record: int, **changes) -> dict:
    info = {
        "image_name": f"{record}.png",
        "raw_url": f"http://example.org/{record}.png",
        "matched_text_index": 1,
        "matched_sim": 0.3,
    }
    sentences = ["First.", f"caption {record}", "Last."]
    return {"text_list": sentences, "image_info": [info | changes], "url": "http://example.org"}


def obelics_record(record: int, image=None) -> dict:
    image = image or f"{record}.png"
    texts, images = [f"caption {record}", None, "Last."], [None, image, None]
    return {"texts": texts, "images": images, "metadata": "[]", "general_metadata": "{}"}


def llava_record(record: int, question: str = "<image>\nWhat is it?", **changes) -> dict:
    turns = [
        {"from": "human", "value": question},
        {"from": "gpt", "value": f"caption {record}"},
    ]
    return {"id": str(record), "image": f"{record}.png", "conversations": turns} | changes


def write_csv(folder: Path, count: int = COUNT) -> Path:
    write_pictures(folder, count)
    rows = "".join(f"{record}.png,caption {record}\n" for record in range(count))
    (folder / "metadata.csv").write_text("file_name,text\n" + rows, encoding="utf-8")
    return folder


def write_jsonl(folder: Path, count: int = COUNT) -> Path:
    write_pictures(folder, count)
    rows = [{"file_name": f"{record}.png", "text": f"caption {record}"} for record in range(count)]
    write_lines(folder / "metadata.jsonl", rows)
    return folder


def write_webdataset(folder: Path, count: int = COUNT) -> Path:
    """Four shards of different lengths."""
    folder.mkdir(parents=True, exist_ok=True)
    ends = [0, count // 5, count // 2, count - 1, count]
    for shard, (begin, end) in enumerate(zip(ends, ends[1:])):
        members = [member for record in range(begin, end) for member in sample_members(record)]
        write_tar(folder / f"part-{shard:03}.tar", members)
    return folder


def write_llava(folder: Path, count: int = COUNT) -> Path:
    write_pictures(folder / "images", count)
    text = json.dumps([llava_record(record) for record in range(count)], indent=1)
    (folder / "conversations.json").write_text(text, encoding="utf-8")
    return folder


def write_shards(folder: Path, record_of, count: int = COUNT) -> Path:
    write_pictures(folder / "images", count)
    records = [record_of(record) for record in range(count)]
    write_lines(folder / "shard_0.jsonl", records[: count // 3])
    write_lines(folder / "shard_1.jsonl", records[count // 3 :])
    return folder


def write_mmc4(folder: Path, count: int = COUNT) -> Path:
    return write_shards(folder, mmc4_record, count)


def write_obelics(folder: Path, count: int = COUNT) -> Path:
    return write_shards(folder, obelics_record, count)


WRITERS = {
    "imagefolder, csv": write_csv,
    "imagefolder, jsonl": write_jsonl,
    "webdataset": write_webdataset,
    "llava": write_llava,
    "mmc4": write_mmc4,
    "obelics": write_obelics,
}


def record_of(document) -> int:
    """Which record a document is: its picture and its text must agree."""
    (image,) = document.images
    red, green, blue = image.getpixel((0, 0))
    assert (red, green, blue) == colour_of(red)
    assert f"caption {red}" in [item for item in document.items if isinstance(item, str)] or (
        f"caption {red}" in document.text
    )
    return red


def records_of(documents) -> list[int]:
    return [record_of(document) for document in documents]


@contextmanager
def decoded(monkeypatch):
    """A list that receives the record of each picture that is decoded meanwhile."""
    found = []
    original = pictures.as_rgb

    def watched(image):
        rgb = original(image)
        found.append(rgb.getpixel((0, 0))[0])
        return rgb

    with monkeypatch.context() as patch:
        patch.setattr(pictures, "as_rgb", watched)
        yield found
