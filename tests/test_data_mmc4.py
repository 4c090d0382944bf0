"""MMC4: pictures that are matched to sentences, in the order in which they are read."""

import pytest
from data_shared import mmc4_record, write_lines, write_pictures

from minidream import data
from minidream.data import mmc4


def matched(name, index) -> dict:
    return {"image_name": name, "matched_text_index": index, "matched_sim": 0.3}


def shape(document) -> list:
    return [item if isinstance(item, str) else item.getpixel((0, 0))[0] for item in document.items]


def document_of(folder, record: dict):
    write_pictures(folder, 5)
    write_lines(folder / "docs_no_face_shard_0_v3.jsonl", [record])
    (found,) = data.documents(folder)
    return found


@pytest.mark.parametrize(
    "sentences, pictures, items, targets",
    [
        (["a", "b", "c"], [("2.png", 2), ("1.png", 1)], ["a b", 1, "c", 2], (0, 1)),
        (["a", "b", "c"], [("1.png", 0)], ["a", 1, "b c"], (0,)),
        (["a ", " b"], [("3.png", 1), ("2.png", 1)], ["a b", 3, 2], (0,)),
        (["", "b"], [("3.png", 0), ("2.png", 1)], [3, "b", 2], (1,)),
        (["a", " ", "c", ""], [("3.png", 1)], ["a", 3, "c"], (0,)),
        (["a"], [("0.png", 0)] * 2, ["a", 0, 0], (0,)),
    ],
)
def test_pictures_are_put_after_the_sentence_that_they_match(
    tmp_path, sentences, pictures, items, targets
):
    record = {"text_list": sentences, "image_info": [matched(*picture) for picture in pictures]}
    found = document_of(tmp_path, record)
    assert shape(found) == items
    assert found.targets == targets  # pictures that follow text are to be painted


def test_a_picture_without_a_name_may_be_found_by_its_url(tmp_path):
    record = mmc4_record(3, image_name=None, raw_url="http://example.org/some/3.png")
    assert shape(document_of(tmp_path, record)) == ["First. caption 3", 3, "Last."]


@pytest.mark.parametrize(
    "record, reason",
    [
        ({"image_info": []}, "a field is missing"),
        ({"text_list": ["a"]}, "a field is missing"),
        ({"text_list": "a", "image_info": []}, "a field is no list"),
        ({"text_list": ["a"], "image_info": []}, "a document has no picture"),
        (
            {"text_list": ["a"], "image_info": [matched("0.png", 0)] * 65},
            "a record has more than 64 pictures",
        ),
        ({"text_list": ["a"], "image_info": ["0.png"]}, "a picture is no object with fields"),
        ({"text_list": [3], "image_info": [matched("0.png", 0)]}, "a sentence is no text"),
        (
            {"text_list": ["a <im_start>"], "image_info": [matched("0.png", 0)]},
            "text holds a special token",
        ),
        *(
            (
                mmc4_record(0, matched_text_index=index),
                "a picture is matched to a sentence that does not exist",
            )
            for index in (3, -1, None, "1", 1.5)
        ),
        (
            {"text_list": [], "image_info": [matched("0.png", 0)]},
            "a picture is matched to a sentence that does not exist",
        ),
        (mmc4_record(9), "a picture is not in the folder"),
        (mmc4_record(9, image_name=None), "a picture is a URL without a file in the folder"),
        (mmc4_record(9, image_name=None, raw_url=None), "a picture has no name"),
        (mmc4_record(0, image_name="../0.png"), "the path of a picture leaves the folder"),
        (["a"], "a record is no object with fields"),
    ],
)
def test_a_record_that_cannot_be_used_is_skipped_with_the_reason(tmp_path, record, reason):
    write_pictures(tmp_path / "images", 3)
    write_lines(tmp_path / "0.jsonl", [mmc4_record(1), record, mmc4_record(2)])
    reading = data.documents(tmp_path)
    with pytest.warns(UserWarning, match="1 record was skipped"):
        assert len(list(reading)) == 2
    assert reading.skipped.counts == {reason: 1}
    assert "0.jsonl, record 2" in str(reading.skipped)


def test_a_document_is_skipped_as_a_whole(tmp_path):
    """What is left of it would speak of what is not there."""
    pictures = [matched("0.png", 0), matched("9.png", 1)]
    write_pictures(tmp_path, 3)
    write_lines(tmp_path / "0.jsonl", [{"text_list": ["a", "b"], "image_info": pictures}])
    reading = data.documents(tmp_path)
    with pytest.warns(UserWarning, match="a picture is not in the folder"):
        assert list(reading) == []


def test_errors_that_concern_the_whole_come_before_the_first_document(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"has no \.jsonl file with the fields \['text_list'"
    ):
        mmc4.read(tmp_path)
    write_lines(tmp_path / "0.jsonl", [mmc4_record(1)])
    (tmp_path / "1.jsonl").write_text('{"text_list": []}\n{"text_list"\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"1\.jsonl is damaged at line 2: Expecting ':' delimiter"):
        data.documents(tmp_path)
