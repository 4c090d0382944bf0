"""Pictures that records name: found inside the data's folder, checked, and decoded."""

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from PIL import Image

from ..images import as_rgb
from .reading import Unusable

# Pillow reads more formats, and some of them in ways that data from elsewhere should not reach: it
# starts Ghostscript for EPS, for example.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
# Those of a picture of 9,459 x 9,459, a quarter of a gigabyte in RGB: where Pillow begins to warn
# of decompression bombs. Scripts often switch Pillow's own limit off.
MOST_PIXELS = 89_478_485
MOST_PICTURES = 64  # in one document; the context of the full weights holds six that are painted
BESIDE = ("", "images")  # where pictures are looked for, relative to the folder of the data

LEAVES = "the path of a picture leaves the folder"
MISSING = "a picture is not in the folder"
ONLY_URL = "a picture is a URL without a file in the folder"
BROKEN = "a picture cannot be read"
TOO_LARGE = f"a picture has more than {MOST_PIXELS:,} pixels"
# An absolute path, a drive, or ".." between slashes of both kinds.
UPWARDS = re.compile(r"^[/\\]|^[a-zA-Z]:|(?:^|[/\\])\.\.(?:[/\\]|$)")
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def as_path(path: str | bytes | os.PathLike) -> Path:
    """A path as the user gave it, with "~" replaced by the home folder; TypeError for no path."""
    return Path(os.path.expanduser(os.fsdecode(path)))


def leaves(name: str) -> bool:
    """Whether a path is not relative, or leads upwards, on any operating system."""
    return UPWARDS.search(name) is not None


def is_within(root: str, path: str) -> bool:
    """Whether a path stays in a resolved folder once links are followed."""
    return os.path.realpath(path).startswith(os.path.join(root, ""))


def find_picture(root: Path, names: list[str]) -> Path:
    """The first file that exists of those that a picture may be; errors as `picture`."""
    for name in names:
        if leaves(name):
            raise Unusable(LEAVES, name)
        for folder in BESIDE:
            path = os.path.join(root, folder, name)
            if not os.path.isfile(path):  # a pipe is no file, either: it would never end
                continue
            if not is_within(str(root), path):
                raise Unusable(LEAVES, name)
            return Path(path)
    raise Unusable(MISSING, names[0])


def open_picture(root: Path, names: list[str]) -> Image.Image:
    """A picture of a record, as RGB; see `picture`."""
    path = find_picture(root, names)
    try:
        with path.open("rb") as file:
            return decode(file, names[0])
    except OSError as error:
        raise Unusable(BROKEN, f"{names[0]}: {error}") from error


def decode(file: BinaryIO, name: str) -> Image.Image:
    """A picture from an open file, as RGB.

    Raises:
        Unusable: if it is no picture in one of the `FORMATS`, has too many pixels, which is found
            before it is decoded, or is broken.
    """
    try:
        image = Image.open(file, formats=FORMATS)
        pixels = image.width * image.height
        rgb = as_rgb(image) if pixels <= MOST_PIXELS else None
    except BOMBS as error:
        raise Unusable(TOO_LARGE, name) from error
    except Exception as error:  # whatever Pillow raises for files that are not as they should be
        raise Unusable(BROKEN, f"{name}: {error}") from error
    if rgb is None:
        raise Unusable(TOO_LARGE, f"{name}: {image.width} x {image.height}")
    return rgb


def picture(root: Path, name) -> Callable[[], Image.Image]:
    """What opens a picture of a record, when it is called.

    Args:
        root: the folder of the data, resolved. The file may also be in its folder `images`.
        name: a path relative to the folder. Nothing is downloaded: of a URL, the file is host/path
            (as `wget --force-directories` saves it), or else the last part of the path.

    Raises:
        Unusable: if it is no text. When called: if there is no such file, it is outside the folder,
            or as `decode`.
    """
    if not isinstance(name, str) or not name.strip():
        raise Unusable("a picture has no name", name)
    if "://" not in name:
        return partial(open_picture, root, [name])
    return partial(open_url, root, name)


def open_url(root: Path, url: str) -> Image.Image:
    """The picture that was downloaded from a URL before; errors as `picture`."""
    try:
        parts = urlsplit(url)
        host, path = parts.hostname or "", unquote(parts.path).strip("/")
    except ValueError as error:
        raise Unusable("a URL cannot be read", url) from error
    if leaves(path):
        raise Unusable(LEAVES, url)
    if not path:
        raise Unusable(ONLY_URL, url)
    try:
        return open_picture(root, [f"{host}/{path}", path.rsplit("/", 1)[-1]])
    except Unusable as fault:
        if fault.reason != MISSING:
            raise
        raise Unusable(ONLY_URL, url) from fault


def check_count(pictures: int) -> None:
    """Unusable for a document without pictures, or with too many (both numbers)."""
    if pictures == 0:
        raise Unusable("a document has no picture")
    if pictures > MOST_PICTURES:
        raise Unusable(f"a record has more than {MOST_PICTURES} pictures", pictures)
