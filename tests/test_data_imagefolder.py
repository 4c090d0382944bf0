"""Folders of pictures with captions, as ImageFolder of Hugging Face's datasets has them."""

import pytest
from data_shared import COUNT, colour_of, record_of, records_of, write_csv, write_jsonl, write_lines

from minidream import data
from minidream.data import imagefolder

LAYOUTS = {"csv": write_csv, "jsonl": write_jsonl}


def skipped_in(reading) -> dict:
    with pytest.warns(UserWarning):
        list(reading)
    return reading.skipped.counts


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_row_is_a_caption_and_the_picture_to_be_painted(tmp_path, layout):
    folder = LAYOUTS[layout](tmp_path, 3)
    (folder / "without_a_row.png").write_bytes((folder / "1.png").read_bytes())
    documents = sorted(imagefolder.read(folder), key=record_of)
    assert len(documents) == 3
    for record, document in enumerate(documents):
        text, image = document.items
        assert text == f"caption {record}" and document.targets == (0,)
        assert image.size == (5, 3) and image.getpixel((4, 2)) == colour_of(record)


def test_other_columns_do_not_matter_and_text_may_be_quoted(tmp_path):
    write_csv(tmp_path, 2)
    rows = 'id,text,file_name\n7,"a ""big"" star,\nand a ring ", 0.png\n8,a ring,1.png\n'
    (tmp_path / "metadata.csv").write_text(rows, encoding="utf-8")
    texts = {document.text for document in imagefolder.read(tmp_path)}
    assert texts == {'a "big" star,\nand a ring', "a ring"}


def test_pictures_may_be_in_folders_below(tmp_path):
    write_csv(tmp_path / "train" / "first", 2)
    rows = [
        {"file_name": f"train/first/{record}.png", "text": f"caption {record}"} for record in (0, 1)
    ]
    write_lines(tmp_path / "metadata.jsonl", rows)
    assert sorted(records_of(data.documents(tmp_path))) == [0, 1]


@pytest.mark.parametrize(
    "row, reason",
    [
        ({"file_name": "0.png"}, "a field is missing"),
        ({"text": "a star"}, "a field is missing"),
        ({"file_name": "0.png", "text": None}, "a field is missing"),
        ({"file_name": "0.png", "text": ["a star"]}, "a field is no str"),
        ({"file_name": 3, "text": "a star"}, "a field is no str"),
        ({"file_name": "0.png", "text": " \n"}, "a field is blank"),
        ({"file_name": " ", "text": "a star"}, "a field is blank"),
        ({"file_name": "0.png", "text": "a <dream_start> star"}, "text holds a special token"),
        ({"file_name": "0.png", "text": "</s>"}, "text holds a special token"),
        (
            {"file_name": "0.png", "text": "a \ud800"},
            "text holds half a character (a lone surrogate)",
        ),
        ({"file_name": "\ud800.png", "text": "a star"}, "a picture is not in the folder"),
        (["0.png", "a star"], "a record is no object with fields"),
    ],
)
def test_a_row_that_cannot_be_used_is_skipped_with_the_reason(tmp_path, row, reason):
    write_csv(tmp_path, 2).joinpath("metadata.csv").unlink()
    write_lines(tmp_path / "metadata.jsonl", [row, {"file_name": "1.png", "text": "caption 1"}])
    reading = imagefolder.read(tmp_path)
    assert skipped_in(reading) == {reason: 1}
    assert "metadata.jsonl, record 1" in str(reading.skipped)


def test_the_text_is_checked_before_the_picture_is_opened(tmp_path):
    write_csv(tmp_path, 1)
    rows = "file_name,text\nmissing.png,a <dream>\n0.png,caption 0\n"
    (tmp_path / "metadata.csv").write_text(rows, encoding="utf-8")
    assert skipped_in(imagefolder.read(tmp_path)) == {"text holds a special token": 1}


def test_a_short_row_is_skipped(tmp_path):
    write_csv(tmp_path, 2)
    (tmp_path / "metadata.csv").write_text("file_name,text\n0.png\n1.png,b\n", encoding="utf-8")
    assert skipped_in(imagefolder.read(tmp_path)) == {"a field is missing": 1}


def test_metadata_must_be_there_once_and_have_the_columns(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no metadata.csv or metadata.jsonl"):
        imagefolder.read(tmp_path)
    write_csv(tmp_path)
    (tmp_path / "metadata.csv").write_text("image,text\n0.png,a\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"no column 'file_name'; it has \['image', 'text'\]"):
        data.documents(tmp_path)
    write_jsonl(tmp_path)
    with pytest.raises(ValueError, match="has both metadata.csv and metadata.jsonl"):
        data.documents(tmp_path)


def test_metadata_that_leads_out_of_the_folder_is_refused(tmp_path):
    write_jsonl(tmp_path / "other")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "metadata.jsonl").symlink_to(tmp_path / "other" / "metadata.jsonl")
    with pytest.raises(ValueError, match="metadata.jsonl is not read: it leads out of"):
        data.documents(tmp_path / "data")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_are_those_that_datasets_reads(tmp_path, layout, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    folder = LAYOUTS[layout](tmp_path / "data")
    theirs = datasets.load_dataset(
        "imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "cache")
    )
    expected = {row["text"]: row["image"].convert("RGB").tobytes() for row in theirs}
    found = {document.text: document.images[0].tobytes() for document in imagefolder.read(folder)}
    assert found == expected and len(found) == COUNT
