"""OBELICS: two parallel lists, of texts and of pictures."""

import pytest
from data_shared import obelics_record, picture_bytes, write_lines, write_pictures

from minidream import data
from minidream.data import obelics


def shape(document) -> list:
    return [item if isinstance(item, str) else item.getpixel((0, 0))[0] for item in document.items]


@pytest.mark.parametrize(
    "texts, images, items, targets",
    [
        ([None, "a", None], ["1.png", None, "2.png"], [1, "a", 2], (1,)),
        (["a", None, None, "b"], [None, "1.png", "2.png", None], ["a", 1, 2, "b"], (0,)),
        ([" a\n", "", "b", None], [None, None, None, "0.png"], ["a", "b", 0], (0,)),
        ([None], ["2.png"], [2], ()),
    ],
)
def test_the_order_is_that_of_the_lists(tmp_path, texts, images, items, targets):
    write_pictures(tmp_path / "images", 3)
    write_lines(tmp_path / "0.jsonl", [{"texts": texts, "images": images}])
    (found,) = data.documents(tmp_path)
    assert shape(found) == items
    assert found.targets == targets  # pictures that follow text are to be painted


def test_pictures_of_urls_are_those_that_were_downloaded_before(tmp_path):
    saved = tmp_path / "images" / "example.org" / "some"
    saved.mkdir(parents=True)
    (saved / "7.png").write_bytes(picture_bytes(7))
    (tmp_path / "images" / "7.png").write_bytes(picture_bytes(8))
    urls = ["https://example.org/some/7.png?w=5", "https://other.org/7.png"]
    write_lines(tmp_path / "0.jsonl", [obelics_record(7, urls[0]), obelics_record(8, urls[1])])
    pictures = {shape(document)[0]: shape(document)[1] for document in data.documents(tmp_path)}
    assert pictures == {"caption 7": 7, "caption 8": 8}


@pytest.mark.parametrize(
    "record, reason",
    [
        ({"texts": ["a"]}, "a field is missing"),
        ({"images": ["0.png"]}, "a field is missing"),
        ({"texts": "a", "images": ["0.png"]}, "a field is no list"),
        ({"texts": ["a", None], "images": [None]}, "texts and images differ in length"),
        (
            {"texts": ["a"], "images": ["0.png"]},
            "a position has both a text and a picture, or neither",
        ),
        (
            {"texts": [None, None], "images": ["0.png", None]},
            "a position has both a text and a picture, or neither",
        ),
        ({"texts": ["a"], "images": [None]}, "a document has no picture"),
        ({"texts": [None] * 65, "images": ["0.png"] * 65}, "a record has more than 64 pictures"),
        ({"texts": [3, None], "images": [None, "0.png"]}, "a text is no text"),
        ({"texts": ["a <image>", None], "images": [None, "0.png"]}, "text holds a special token"),
        ({"texts": [None], "images": [3]}, "a picture has no name"),
        (obelics_record(9), "a picture is not in the folder"),
        (
            obelics_record(9, "http://example.org/9.png"),
            "a picture is a URL without a file in the folder",
        ),
        (obelics_record(9, "/etc/passwd"), "the path of a picture leaves the folder"),
    ],
)
def test_a_record_that_cannot_be_used_is_skipped_with_the_reason(tmp_path, record, reason):
    write_pictures(tmp_path, 3)
    write_lines(tmp_path / "0.jsonl", [obelics_record(1), record, obelics_record(2)])
    reading = data.documents(tmp_path)
    with pytest.warns(UserWarning, match="1 record was skipped"):
        assert len(list(reading)) == 2
    assert reading.skipped.counts == {reason: 1}


def test_errors_that_concern_the_whole_come_before_the_first_document(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no \.jsonl file with the fields \['texts'"):
        obelics.read(tmp_path)
    write_lines(tmp_path / "0.jsonl", [{"texts": ["a"], "pictures": []}])
    with pytest.raises(ValueError, match=r"no record of 0\.jsonl .* has \['texts', 'pictures'\]"):
        obelics.read(tmp_path)
    with pytest.raises(ValueError, match="has no format that is known here"):
        data.documents(tmp_path)
