"""Pictures that records name: where they are looked for, and which are refused."""

import io
import os
import struct
import warnings
import zlib

import pytest
from data_shared import colour_of, picture_bytes, write_csv, write_lines, write_pictures
from PIL import Image

from minidream import data
from minidream.data.pictures import MOST_PIXELS, decode, leaves, picture
from minidream.data.reading import Unusable


def opened(folder, name):
    return picture(folder.resolve(), name)()


def reason(folder, name) -> str:
    with pytest.raises(Unusable) as caught:
        opened(folder, name)
    return caught.value.reason


@pytest.fixture
def folder(tmp_path):
    """A folder of data with three pictures, and one outside."""
    (tmp_path / "outside.png").write_bytes(picture_bytes(99))
    inner = tmp_path / "data"
    write_pictures(inner, 3)
    return inner


def test_a_picture_is_found_in_the_folder_or_in_its_folder_of_images(folder):
    write_pictures(folder / "images" / "train", 5)
    assert opened(folder, "1.png").getpixel((0, 0)) == colour_of(1)
    assert opened(folder, "./1.png").getpixel((0, 0)) == colour_of(1)
    assert opened(folder, "train/4.png").getpixel((0, 0)) == colour_of(4)
    assert opened(folder, "images/train/4.png").getpixel((0, 0)) == colour_of(4)
    assert reason(folder, "4.png") == "a picture is not in the folder"


@pytest.mark.parametrize(
    "name",
    [
        "../outside.png",
        "images/../../outside.png",
        "..\\outside.png",
        "C:\\outside.png",
        "\\\\host\\share\\outside.png",
        "/etc/passwd",
        "..",
        "images/..",
    ],
)
def test_a_path_out_of_the_folder_is_refused_on_every_system(folder, name):
    (folder / "images").mkdir()
    assert leaves(name)
    assert reason(folder, name) == "the path of a picture leaves the folder"


def test_a_path_to_an_absolute_place_inside_is_refused_too(folder):
    """Such data would work on one machine only."""
    assert reason(folder, str(folder / "1.png")) == "the path of a picture leaves the folder"


def test_a_link_out_of_the_folder_is_refused_and_one_inside_is_followed(folder, tmp_path):
    (folder / "inner.png").symlink_to("2.png")
    (folder / "outer.png").symlink_to(tmp_path / "outside.png")
    (folder / "up").symlink_to("..")
    (folder / "beside").symlink_to(tmp_path / "data-of-another")
    (tmp_path / "data-of-another").mkdir()
    (tmp_path / "data-of-another" / "1.png").write_bytes(picture_bytes(1))
    assert opened(folder, "inner.png").getpixel((0, 0)) == colour_of(2)
    for name in ("outer.png", "up/outside.png", "up/data/1.png/../../outside.png", "beside/1.png"):
        assert reason(folder, name) == "the path of a picture leaves the folder", name
    assert opened(folder, "up/data/1.png").getpixel((0, 0)) == colour_of(1)  # out, and in again


def test_the_folder_itself_may_be_a_link(folder, tmp_path):
    (tmp_path / "link").symlink_to("data")
    assert opened(tmp_path / "link", "1.png").getpixel((0, 0)) == colour_of(1)


def test_what_is_no_file_is_not_opened(folder):
    os.mkfifo(folder / "pipe.png")  # opening it would wait for a writer
    (folder / "folder.png").mkdir()
    (folder / "circle.png").symlink_to("circle.png")
    (folder / "gone.png").symlink_to("nothing.png")
    for name in ("pipe.png", "folder.png", "gone.png", "circle.png", "zero\0byte.png", "a" * 999):
        assert reason(folder, name) == "a picture is not in the folder", name


@pytest.mark.parametrize("name", [None, 3, "", "  ", ["1.png"], {"path": "1.png"}])
def test_a_name_that_is_no_text_is_refused(folder, name):
    with pytest.raises(Unusable, match="a picture has no name"):
        picture(folder, name)


# --------------------------------------------------------------------------------------------------
# URLs


def test_the_file_of_a_url_is_named_like_its_host_and_path_or_like_the_last_part(folder):
    write_pictures(folder / "example.org" / "a b", 2)
    (folder / "images" / "other.org").mkdir(parents=True)
    (folder / "images" / "other.org" / "x.png").write_bytes(picture_bytes(7))
    for url, record in (
        ("https://example.org/a%20b/1.png", 1),
        ("http://example.org:8080/a%20b/1.png?size=2#top", 1),
        ("http://user:word@other.org/x.png", 7),
        ("http://third.org/some/where/2.png", 2),
    ):
        assert opened(folder, url).getpixel((0, 0)) == colour_of(record), url


def test_a_url_without_a_file_is_refused_and_not_fetched(folder):
    for url in ("http://example.org/7.png", "http://example.org/", "http://example.org"):
        assert reason(folder, url) == "a picture is a URL without a file in the folder", url
    assert reason(folder, "http://[::1/7.png") == "a URL cannot be read"


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/../outside.png",
        "http://example.org/%2e%2e/%2e%2e/outside.png",
        "file:///../outside.png",
        "http://../outside.png",
        "http://example.org/..%5coutside.png",
    ],
)
def test_a_url_does_not_lead_out_of_the_folder(folder, url):
    assert reason(folder, url) == "the path of a picture leaves the folder"


# --------------------------------------------------------------------------------------------------
# Broken files


def png_of_size(width: int, height: int) -> bytes:
    """A small file that says that it is a picture of any size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" * 100)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [None, 1000, Image.MAX_IMAGE_PIXELS])
@pytest.mark.parametrize("size", [(MOST_PIXELS + 1, 1), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(folder, monkeypatch, size, limit):
    """Also if the user has switched Pillow's own limit off."""

    def exploded(image):
        raise AssertionError("it was decoded")

    monkeypatch.setattr("minidream.data.pictures.as_rgb", exploded)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    (folder / "bomb.png").write_bytes(png_of_size(*size))
    assert reason(folder, "bomb.png") == f"a picture has more than {MOST_PIXELS:,} pixels"


def test_the_warning_of_a_bomb_as_an_error_is_no_other_error(folder):
    (folder / "bomb.png").write_bytes(png_of_size(10_000, 10_000))
    with pytest.warns(Image.DecompressionBombWarning):
        assert "pixels" in reason(folder, "bomb.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "pixels" in reason(folder, "bomb.png")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a star",
        picture_bytes(1)[:40],
        picture_bytes(1, "JPEG", (64, 64))[:400],
        png_of_size(0, 3),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 3\n%%EndComments\nshowpage\n",
        b"P6 2 1 255 " + bytes(6),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"version https://git-lfs.github.com/spec/v1\n",
    ],
    ids=["empty", "text", "png", "jpeg", "no pixels", "eps", "ppm", "svg", "lfs"],
)
def test_a_file_that_is_no_whole_picture_is_refused(folder, content):
    """Nor one of a format, such as EPS and PPM, that Pillow reads but no data set needs."""
    (folder / "broken.png").write_bytes(content)
    assert reason(folder, "broken.png") == "a picture cannot be read"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_pictures_of_usual_formats_are_read_as_rgb_whatever_they_are_called(folder, kind):
    (folder / "picture.jpg").write_bytes(picture_bytes(100, kind, (16, 16)))
    image = opened(folder, "picture.jpg")
    assert image.mode == "RGB" and image.size == (16, 16)
    assert all(abs(a - b) < 6 for a, b in zip(image.getpixel((8, 8)), colour_of(100)))


def test_a_picture_is_turned_upright(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (5, 3)).save(folder / "turned.jpg", exif=exif)
    assert opened(folder, "turned.jpg").size == (3, 5)


def test_decode_reads_from_memory():
    assert decode(io.BytesIO(picture_bytes(4)), "4.png").getpixel((0, 0)) == colour_of(4)


def test_all_faults_of_pictures_are_counted_in_one_pass(tmp_path):
    """Fourteen records, of which ten are good."""
    folder = write_csv(tmp_path / "data", 10)
    (tmp_path / "outside.png").write_bytes(picture_bytes(99))
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    (folder / "broken.png").write_bytes(b"no picture")
    rows = [{"file_name": f"{record}.png", "text": f"caption {record}"} for record in range(10)]
    for name in ("../outside.png", "link.png", "broken.png", "http://example.org/a.png"):
        rows.insert(3, {"file_name": name, "text": "a bad one"})
    (folder / "metadata.csv").unlink()
    write_lines(folder / "metadata.jsonl", rows)
    reading = data.documents(folder)
    with pytest.warns(UserWarning, match="4 records were skipped"):
        assert len(list(reading)) == 10
    assert reading.skipped.counts == {
        "the path of a picture leaves the folder": 2,
        "a picture cannot be read": 1,
        "a picture is a URL without a file in the folder": 1,
    }
    assert "metadata.jsonl, record 7: '../outside.png'" in str(reading.skipped)
