"""Documents and their layout: as in the official data builder, and by hand."""

import json
from pathlib import Path

import IPython.display
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from minidream.documents import (
    IGNORED,
    Document,
    Layout,
    as_document,
    as_documents,
    collate,
    lay_out,
)
from minidream.images import as_rgb
from minidream.tokenizers import SPECIAL_TOKENS, LlamaTokenizer, ToyTokenizer

TINY = Path(__file__).parent / "fixtures" / "tiny-a"
RED, BLUE, GREEN = (Image.new("RGB", (5, 3), colour) for colour in ("red", "blue", "green"))
TOY = ToyTokenizer(["a", "red", "blue", "thing", "now", ".", "#"])
S = TOY.special


# --------------------------------------------------------------------------------------------------
# Documents


def test_a_document_keeps_order_and_tells_text_from_images():
    document = Document([RED, "a red", BLUE, "thing", "now"])
    assert [type(item) is str for item in document.items] == [False, True, False, True, True]
    assert document.text == "a red thing now"
    assert document.images == [RED, BLUE]
    assert repr(document) == "Document('[image] a red [image] thing now')"


@pytest.mark.parametrize(
    "items, targets",
    [
        (
            [RED, "a", BLUE, GREEN, "a", RED],
            (1, 3),
        ),  # those that follow text; not the first, not one after a picture
        (["a", RED], (0,)),
        ([RED, "a"], ()),
        ([RED, BLUE], ()),
        (["a", "a", RED], (0,)),
        ([], ()),
    ],
)
def test_targets_are_the_images_that_follow_text_unless_named(items, targets):
    assert Document(items).targets == targets


def test_named_targets_are_image_numbers_sorted_and_once():
    assert Document([RED, "a", BLUE, GREEN], targets=[2, 0, 2]).targets == (0, 2)
    assert Document(["a", RED], targets=[]).targets == ()
    for wrong in (2, -1):
        with pytest.raises(ValueError, match=f"target {wrong} .* has 2"):
            Document(["a", RED, BLUE], targets=[0, wrong])
    numbers = np.array([1.0, 0.0])
    assert repr(Document(["a", RED, BLUE], targets=numbers).targets) == "(0, 1)"
    for wrong in (1, [True], ["0"], [None]):
        with pytest.raises(TypeError, match="targets are a list|a target is a number"):
            Document(["a", RED, BLUE], targets=wrong)
    with pytest.raises(ValueError, match="a target is a whole number, not 0.5"):
        Document(["a", RED, BLUE], targets=[0.5])


@pytest.mark.parametrize(
    "items, named",
    [("a red thing", "bare str"), (RED, "bare Image"), (Document(["a"]), "bare Document")]
    + [({"a", "red"}, "bare set"), ({"a": RED}, "bare dict"), (None, "bare NoneType")],
)
def test_a_bare_item_is_no_list(items, named):
    with pytest.raises(TypeError, match=f"takes a list .*{named}"):
        Document(items)


def test_other_items_are_named_with_their_place():
    with pytest.raises(TypeError, match="item 1 of a document is a ndarray"):
        Document(["a", np.zeros((3, 5, 3))])


def test_before_an_image_is_what_its_queries_see():
    document = Document([RED, "a", BLUE, "b", GREEN], targets=[0, 2])
    first, second, third = (document.before(index) for index in range(3))
    assert (first.items, first.targets) == ([], ())
    assert (second.items, second.targets) == ([RED, "a"], (0,))
    assert (third.items, third.targets) == ([RED, "a", BLUE, "b"], (0,))
    for wrong in (-1, 3):
        with pytest.raises(ValueError, match=f"image {wrong} was asked for; the document has 3"):
            document.before(wrong)


def test_show_displays_text_and_images_in_order(monkeypatch):
    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    document = Document(["a *red* ring", RED, "now"])
    document.show()
    text, image, last = shown
    assert (text.data, last.data) == ("a *red* ring", "now") and image is document.images[0]
    assert isinstance(text, IPython.display.Markdown)


@pytest.mark.parametrize(
    "prompt, message",
    [
        (RED, r"bare image is no prompt: .* minidream\.Document"),
        (7, "a str or a minidream.Document, not a int"),
    ],
)
def test_a_prompt_is_text_or_a_document(prompt, message):
    with pytest.raises(TypeError, match=message):
        as_document(prompt)


def test_prompts_become_documents():
    document = Document(["a", RED])
    assert as_document(document) is document
    assert as_document("a red ring").items == ["a red ring"] and as_document(" ").items == []
    assert [one.text for one in as_documents(("a", document))] == ["a", "a"]
    assert [one.text for one in as_documents("a")] == ["a"]
    with pytest.raises(ValueError, match="list of prompts is empty"):
        as_documents([])


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_text_never_holds_a_special_token(token):
    with pytest.raises(ValueError) as caught:
        Document([RED, f"a red{token}thing"])
    assert token in str(caught.value)


# --------------------------------------------------------------------------------------------------
# Images of all modes


def colours(image):
    """The pixels of a picture of one row, as tuples."""
    return [tuple(pixel) for pixel in np.asarray(image)[0].tolist()]


def test_transparency_lies_over_white():
    image = Image.new("RGBA", (2, 1))
    image.putdata([(200, 0, 0, 255), (200, 0, 0, 0)])
    assert colours(as_rgb(image)) == [(200, 0, 0), (255, 255, 255)]
    half = as_rgb(Image.new("RGBA", (1, 1), (0, 0, 0, 128))).getpixel((0, 0))
    assert half == (127, 127, 127)
    grey = Image.new("LA", (2, 1))
    grey.putdata([(60, 255), (60, 0)])
    assert colours(as_rgb(grey)) == [(60, 60, 60), (255, 255, 255)]


def test_palettes_with_and_without_transparency():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    assert colours(as_rgb(image)) == [(10, 20, 30), (40, 50, 60)]
    image.info["transparency"] = 1  # as GIFs say it: this entry is clear
    assert colours(as_rgb(image)) == [(10, 20, 30), (255, 255, 255)]


def test_black_and_white_and_sixteen_bits():
    bits = Image.new("1", (2, 1))
    bits.putdata([0, 255])
    assert colours(as_rgb(bits)) == [(0, 0, 0), (255, 255, 255)]
    deep = Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16))
    assert deep.mode == "I;16"
    big = Image.frombytes("I;16B", (3, 1), np.array([0, 257 * 100, 65535], dtype=">u2").tobytes())
    assert colours(as_rgb(big)) == colours(as_rgb(deep))
    assert colours(as_rgb(deep)) == [(0, 0, 0), (100, 100, 100), (255, 255, 255)], (
        "scaled, not cut off at 255"
    )


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_without_a_known_range_are_refused(mode):
    with pytest.raises(ValueError, match=f"mode {mode} and size \\(5, 3\\) cannot be read as RGB"):
        Document([Image.new(mode, (5, 3))])


def test_what_pillow_cannot_convert_is_named():
    with pytest.raises(ValueError, match=r"mode La and size \(5, 3\) cannot be read as RGB"):
        Document([Image.new("La", (5, 3))])


def test_a_document_holds_rgb_whatever_it_was_given():
    document = Document(
        [Image.new(mode, (5, 3)) for mode in ("RGBA", "LA", "P", "1", "L", "CMYK", "I;16")]
    )
    assert {image.mode for image in document.images} == {"RGB"}
    assert {image.size for image in document.images} == {(5, 3)}


# --------------------------------------------------------------------------------------------------
# Layouts by hand: 2 queries, 3 patches


def words(text):
    return TOY.encode(text)


READ = [S.im_start, S.im_patch, S.im_patch, S.im_patch, S.im_end]
PAINTED = [S.dream_start, S.im_patch, S.im_patch, S.dream_end]


def test_a_painted_image_stands_twice_and_a_given_one_once():
    layout = lay_out(Document([RED, "a red thing", BLUE, "now"]), TOY, queries=2, patches=3)
    text, now = words("a red thing"), words("now")
    assert layout.ids == [S.bos, *READ, *text, *PAINTED, *READ, *now, S.eos]
    none = IGNORED
    assert layout.labels == [
        none,
        *[none] * 5,
        *text,
        S.dream_start,
        *[none] * 3,
        *[none] * 5,
        *now,
        S.eos,
    ]
    assert layout.patches == [(0, 2), (1, 14)] and layout.queries == [(1, 10)]
    assert [layout.ids[first] for _, first in layout.patches + layout.queries] == [S.im_patch] * 3
    assert (
        layout.ids[2 - 1] == layout.ids[14 - 1] == S.im_start
        and layout.ids[10 - 1] == S.dream_start
    )


def test_read_last_spares_only_a_target_that_ends_the_document():
    ends = lay_out(Document(["a", RED, "a", BLUE]), TOY, 2, 3, read_last=False)
    assert ends.ids == [S.bos, *words("a"), *PAINTED, *READ, *words("a"), *PAINTED, S.eos]
    given = lay_out(Document(["a", RED], targets=[]), TOY, 2, 3, read_last=False)
    assert given.ids == [S.bos, *words("a"), *READ, S.eos], (
        "an image that nobody paints is still read"
    )


def test_without_learn_text_nothing_is_a_target():
    assert set(lay_out(Document(["a", RED, "now"]), TOY, 2, 3, learn_text=False).labels) == {
        IGNORED
    }


def test_an_empty_document_is_two_tokens():
    assert lay_out(Document([]), TOY, 2, 3).ids == [S.bos, S.eos]


@pytest.mark.parametrize("side, starts", [("right", (0, 0, 0)), ("left", (0, 16, 8))])
def test_collate_pads_on_either_side_and_moves_the_blocks_along(side, starts):
    layouts = [
        lay_out(Document(items), TOY, 2, 3)
        for items in ([RED, "a red thing", BLUE, "now"], ["a", "red"], ["a", RED])
    ]
    lengths = [20, 4, 12]
    assert [len(layout.ids) for layout in layouts] == lengths
    batch = collate(layouts, S.pad, side=side)
    assert batch.ids.shape == batch.labels.shape == batch.mask.shape == (3, 20)
    for row, (layout, start, length) in enumerate(zip(layouts, starts, lengths)):
        assert batch.mask[row].nonzero().flatten().tolist() == list(range(start, start + length))
        assert batch.ids[row][batch.mask[row]].tolist() == layout.ids
        assert batch.labels[row][batch.mask[row]].tolist() == layout.labels
    assert (batch.ids[~batch.mask] == S.pad).all() and (batch.labels[~batch.mask] == IGNORED).all()
    assert batch.patches == [(0, 2), (0, 14), (2, starts[2] + 7)]
    assert batch.queries == [(0, 10), (2, starts[2] + 3)]
    for row, first in batch.patches:
        assert batch.ids[row, first - 1 : first + 4].tolist() == READ
    for row, first in batch.queries:
        assert batch.ids[row, first - 1 : first + 3].tolist() == PAINTED


# --------------------------------------------------------------------------------------------------
# The official data builder: 8 queries, 16 patches

GOLDEN = load_file(TINY / "golden/data_builder.safetensors")
MANIFEST = json.loads((TINY / "manifest.json").read_bytes())
META = MANIFEST["golden"]["data_builder.safetensors"]["meta"]
QUERIES, PATCHES = MANIFEST["sizes"]["dream_queries"], MANIFEST["sizes"]["image_tokens"]
FIRST, SECOND, THIRD, FOURTH = META["document_texts"]


@pytest.fixture(scope="module")
def llama():
    return LlamaTokenizer(
        TINY / "checkpoint/tokenizer.model",
        json.loads((TINY / "checkpoint/added_tokens.json").read_bytes()),
    )


def official_layouts(llama):
    """Our layout for each kind of the official builder; images follow texts 0 and 2."""
    joint = [FIRST, RED, f"{SECOND} {THIRD}", BLUE, FOURTH]
    return {
        "t2i": lay_out(
            Document([META["caption"], RED]),
            llama,
            QUERIES,
            PATCHES,
            learn_text=False,
            read_last=False,
        ),
        "i2t": lay_out(Document([RED, META["caption"]]), llama, QUERIES, PATCHES),
        "interleaved": lay_out(Document(joint), llama, QUERIES, PATCHES),
        "interleaved_comprehension_only": lay_out(
            Document(joint, targets=[]), llama, QUERIES, PATCHES
        ),
    }


@pytest.mark.parametrize("kind", ["t2i", "i2t", "interleaved", "interleaved_comprehension_only"])
def test_ids_and_labels_of_the_official_builder(llama, kind):
    layout = official_layouts(llama)[kind]
    assert layout.ids == GOLDEN[f"{kind}.input_ids"].tolist()
    # The official builder also labels <s>. No position precedes it, so it is no target either way.
    assert layout.labels[1:] == GOLDEN[f"{kind}.labels"][1:].tolist()


def test_instructions_are_ignored_and_their_document_is_learned(llama):
    """An official instruct document is a prompt that is ignored, then a document as any other."""
    rest = lay_out(Document([FIRST, RED, f"{SECOND}"]), llama, QUERIES, PATCHES)
    system = META["conv_prompt_image"].split("USER:")[0]
    layout = Layout()
    layout.add(
        [llama.bos, *llama.encode(f"{system}USER: {META['instruction']} ASSISTANT:")], learned=False
    )
    layout.add(rest.ids[1:], learned=False)
    layout.labels[-len(rest.labels) + 1 :] = rest.labels[1:]
    assert layout.ids == GOLDEN["instruct_interleaved.input_ids"].tolist()
    assert layout.labels[1:] == GOLDEN["instruct_interleaved.labels"][1:].tolist()


def test_official_collator(llama):
    layouts = official_layouts(llama)
    batch = collate([layouts[kind] for kind in ("t2i", "i2t", "interleaved")], llama.special.pad)
    assert torch.equal(batch.ids, GOLDEN["collated.input_ids"])
    assert torch.equal(batch.labels[:, 1:], GOLDEN["collated.labels"][:, 1:])
    assert torch.equal(batch.mask.long(), GOLDEN["collated.attention_mask"])
