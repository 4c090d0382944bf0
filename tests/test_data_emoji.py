"""Scenes of emoji: pictures show what captions say, and the readers read the folder."""

import random
import re

import numpy as np
import pytest
from PIL import Image

from minidream.data import documents, emoji
from minidream.tokenizers import ToyTokenizer
from minidream.world.language import VOCABULARY

WHOLE = emoji.emoji()


def test_the_sheet_has_24_different_emoji_and_a_notice():
    found = emoji.emoji()
    assert list(found) == emoji.NAMES and len(set(emoji.NAMES)) == 24
    pixels = {name: np.asarray(image) for name, image in found.items()}
    assert all(each.shape == (32, 32, 4) for each in pixels.values())
    assert len({each.tobytes() for each in pixels.values()}) == 24
    for name, each in pixels.items():
        alpha = each[..., 3]
        assert alpha.max() > 200 and 0.15 < (alpha > 128).mean() < 0.95, name
    notice = emoji.SHEET.with_name("emoji.NOTICE.txt").read_text(encoding="utf-8")
    assert "Apache License, Version 2.0" in notice and "Open\nFont License" in notice


@pytest.mark.parametrize("name, rgb", [("frog", (150, 190, 30)), ("heart", (240, 60, 50))])
def test_names_are_those_of_the_pictures(name, rgb):
    pixels = np.asarray(emoji.emoji()[name]).astype(float)
    opaque = pixels[pixels[..., 3] > 200][:, :3]
    assert np.abs(np.median(opaque, axis=0) - rgb).max() < 50


def test_the_names_are_new_to_the_toy_and_all_other_words_are_known():
    tokenizer = ToyTokenizer(VOCABULARY)
    assert not set(emoji.NAMES) & set(VOCABULARY)
    rng = random.Random(0)
    for _ in range(300):
        _, text = emoji.scene(rng, 16)
        unknown = set(tokenizer.split(text)) - set(VOCABULARY)
        assert 1 <= len(unknown) <= 2 and unknown <= set(emoji.NAMES)


def centre_of(picture: Image.Image, name: str) -> tuple[float, float]:
    """Where the colour of an emoji that has one colour is, as (x, y) in [0, 1]."""
    pixels = np.asarray(picture).astype(float)
    rgb = {"frog": (150, 190, 30), "heart": (244, 67, 54)}[name]
    rows, columns = np.nonzero(np.abs(pixels - rgb).max(axis=-1) < 45)
    return columns.mean() / picture.width, rows.mean() / picture.height


def test_the_emoji_are_where_the_caption_says(monkeypatch):
    monkeypatch.setattr(emoji, "NAMES", ["frog", "heart"])
    monkeypatch.setattr(emoji, "emoji", lambda: WHOLE)
    rng, seen = random.Random(1), set()
    for _ in range(200):
        picture, text = emoji.scene(rng, 64)
        (background,) = re.findall("on a (\\w+) background", text) or [None]
        if background:
            corners = {picture.getpixel((x, y)) for x in (0, 63) for y in (0, 63)}
            assert emoji.BACKGROUNDS[background] in corners
        found = re.search(r"a \w+ (\w+) (left of|right of|above|below) a \w+ (\w+)", text)
        if not found:
            continue
        one, relation, other = found.groups()
        (x, y), (x2, y2) = (centre_of(picture, name) for name in (one, other))
        true = {"left of": x < x2, "right of": x > x2, "above": y < y2, "below": y > y2}
        assert true[relation], text
        seen.add(relation)
    assert seen == {"left of", "right of", "above", "below"}


def test_the_folder_is_read_and_follows_from_the_seed(tmp_path, capsys):
    emoji.main([str(tmp_path / "one"), "--count", "7"])
    assert " ".join(emoji.NAMES) in capsys.readouterr().out
    read = {document.text: document.images[0] for document in documents(tmp_path / "one")}
    assert len(list((tmp_path / "one" / "images").iterdir())) == 7
    again = emoji.write_emoji(tmp_path / "two", count=7)
    for document in documents(again):
        assert document.targets == (0,) and document.images[0].size == (64, 64)
        assert document.images[0].tobytes() == read[document.text].tobytes()
    other = {document.text for document in documents(emoji.write_emoji(tmp_path / "3", 7, seed=1))}
    assert other != set(read)


def test_other_folders_and_numbers_are_refused(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds other files"):
        emoji.write_emoji(tmp_path)
    for wrong in ({"count": 0}, {"side": 7}, {"count": 1.5}):
        with pytest.raises(ValueError):
            emoji.write_emoji(tmp_path / "new", **wrong)
    with pytest.raises(SystemExit):
        emoji.main([str(tmp_path)])
    assert "holds other files" in capsys.readouterr().err and len(list(tmp_path.iterdir())) == 1
