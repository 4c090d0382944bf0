"""LLaVA's conversations, the dialogues that they become, and how a model learns from these."""

import json

import pytest
import torch
from data_shared import colour_of, llava_record, write_pictures
from models_shared import tiny_official, untrained_toy
from PIL import Image

from minidream import Document, data
from minidream.data import Dialogue, llava
from minidream.documents import IGNORED, TEMPLATES, lay_out, turn_layout
from minidream.trainer.lessons import dialogue

PICTURE = Image.linear_gradient("L").resize((32, 32)).convert("RGB")


def turns(*said: str) -> list[dict]:
    speakers = ("human", "gpt") * len(said)
    return [{"from": speaker, "value": text} for speaker, text in zip(speakers, said)]


def written(folder, records: list):
    write_pictures(folder, 3)
    (folder / "list.json").write_text(json.dumps(records), encoding="utf-8")
    return folder


def dialogue_of(folder, record: dict) -> Dialogue:
    (found,) = data.documents(written(folder, [record]))
    return found


def shape(document) -> list:
    """Text as it is, and pictures as the record whose colour they have."""
    return [item if isinstance(item, str) else item.getpixel((0, 0))[0] for item in document.items]


# --------------------------------------------------------------------------------------------------
# From records to dialogues


@pytest.mark.parametrize(
    "question, items",
    [
        ("<image>\nWhat is it?", [1, "What is it?"]),
        ("What is it?\n<image>", ["What is it?", 1]),
        ("Look: <image> What is it?", ["Look:", 1, "What is it?"]),
        (" <image> ", [1]),
    ],
)
def test_the_picture_is_where_the_placeholder_was(tmp_path, question, items):
    found = dialogue_of(tmp_path, llava_record(1, question))
    assert isinstance(found, Document) and isinstance(found, Dialogue)
    assert shape(found) == [*items, "caption 1"]
    assert found.replies == (len(items),) and found.targets == ()


def test_several_turns_and_pictures(tmp_path):
    said = (
        "<image> Which <image> is larger?",
        "The first.",
        "And now? <image>",
        "This.",
        "Why?",
        "So.",
    )
    record = {"image": ["2.png", "0.png", "1.png"], "conversations": turns(*said)}
    found = dialogue_of(tmp_path, record)
    expected = [2, "Which", 0, "is larger?", "The first.", "And now?", 1, "This.", "Why?", "So."]
    assert shape(found) == expected
    assert [found.items[reply] for reply in found.replies] == ["The first.", "This.", "So."]


def test_a_conversation_without_a_picture_is_one_too(tmp_path):
    found = dialogue_of(tmp_path, {"id": "7", "conversations": turns("Hello.", "Good day.")})
    assert shape(found) == ["Hello.", "Good day."] and found.replies == (1,)


@pytest.mark.parametrize(
    "record, reason",
    [
        (llava_record(5, "What is it?"), "<image> does not occur once for each picture"),
        (llava_record(5, "<image> <image>"), "<image> does not occur once for each picture"),
        (llava_record(5, image=None), "<image> does not occur once for each picture"),
        (llava_record(5, image=[]), "<image> does not occur once for each picture"),
        (llava_record(5, image=["0.png"] * 2), "<image> does not occur once for each picture"),
        (llava_record(5, image=3), "a picture has no name"),
        (llava_record(5, image=""), "a picture has no name"),
        (llava_record(5, image="../0.png"), "the path of a picture leaves the folder"),
        (llava_record(5), "a picture is not in the folder"),
        (
            llava_record(5, image="http://example.org/5.png"),
            "a picture is a URL without a file in the folder",
        ),
        (
            llava_record(0, "<image>" * 65, image=["0.png"] * 65),
            "a record has more than 64 pictures",
        ),
        (llava_record(0, "<image> a </s>"), "text holds a special token"),
        (
            llava_record(0, conversations=turns("<image>", "see <image>")),
            "text holds a special token",
        ),
        (
            llava_record(0, conversations=turns("<image>", "a <dream>")),
            "text holds a special token",
        ),
        (llava_record(0, conversations=turns("<image>")), "the last turn is not a reply of gpt"),
        (
            llava_record(0, conversations=turns("<image>", "a", "b")),
            "the last turn is not a reply of gpt",
        ),
        (llava_record(0, conversations=[]), "the last turn is not a reply of gpt"),
        (llava_record(0, conversations="<image>"), "a field is no list"),
        (llava_record(0, conversations=None), "a field is missing"),
        (llava_record(0, conversations=["<image>", "a"]), "a turn is no object with fields"),
        (llava_record(0, conversations=turns("<image>", " ")), "a field is blank"),
        (llava_record(0, conversations=[{"from": "human", "value": 3}] * 2), "a field is no str"),
        (llava_record(0, conversations=[{"from": "human"}] * 2), "a field is missing"),
        (
            llava_record(0, conversations=turns("<image>", "a")[::-1]),
            "turns are not of human and gpt, one after the other",
        ),
        (
            llava_record(0, conversations=[{"from": "system", "value": "a"}, *turns("<image>")]),
            "turns are not of human and gpt, one after the other",
        ),
        ([1, 2], "a record is no object with fields"),
    ],
)
def test_a_record_that_cannot_be_used_is_skipped_with_the_reason(tmp_path, record, reason):
    reading = data.documents(written(tmp_path, [llava_record(1), record, llava_record(2)]))
    with pytest.warns(UserWarning, match="1 record was skipped"):
        assert sorted(document.items[-1] for document in reading) == ["caption 1", "caption 2"]
    assert reading.skipped.counts == {reason: 1}
    assert "list.json, record 2" in str(reading.skipped)


def test_which_file_is_meant_must_be_clear(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no .json file with a list of conversations"):
        llava.read(tmp_path)
    written(tmp_path, [llava_record(1)])
    (tmp_path / "other.json").write_text('{"conversations": 3}', encoding="utf-8")
    assert len(list(data.documents(tmp_path))) == 1  # the other begins like something else
    (tmp_path / "more.json").write_text(json.dumps([llava_record(2)]), encoding="utf-8")
    with pytest.raises(ValueError, match="has 2 files of conversations: which one is meant"):
        data.documents(tmp_path)
    assert len(list(data.documents(tmp_path / "more.json"))) == 1


def test_a_damaged_file_is_an_error_with_its_line(tmp_path):
    records = json.dumps([llava_record(record) for record in range(3)], indent=0)
    written(tmp_path, [])
    line = records[: records.index('"id": "2"')].count("\n") + 1
    # Without one of its quotes, no end of the record can be found, but where it begins.
    for wrong, place in (('"id": 2 2', line), ('"id": 2"', line - 1)):
        damaged = records.replace('"id": "2"', wrong)
        (tmp_path / "list.json").write_text(damaged, encoding="utf-8")
        with pytest.raises(ValueError, match=rf"list.json is damaged at line {place}: "):
            data.documents(tmp_path)


# --------------------------------------------------------------------------------------------------
# Dialogues


@pytest.mark.parametrize(
    "items, replies, error",
    [
        (["a", "b"], [], "no dialogue with the replies"),
        (["a", "b"], [0], "no dialogue with the replies"),
        (["a", "b", "c"], [1], "no dialogue with the replies"),
        (["a", "b", "c"], [1, 2], "no dialogue with the replies"),
        (["a", "b", "c"], [0, 2], "no dialogue with the replies"),
        (["a", "b", "c", "d"], [3, 1], "no dialogue with the replies"),
        ([], [], "no dialogue with the replies"),
        (["a", PICTURE], [1], "a reply is an image"),
        (["a", "b"], [2], "reply 2 was asked for; the dialogue has 2 items"),
        (["a", "b </s>"], [1], "special token"),
    ],
)
def test_what_is_no_dialogue_is_refused(items, replies, error):
    with pytest.raises(ValueError, match=error):
        Dialogue(items, replies)


def decoded(model, layout) -> list[tuple[str, bool]]:
    """Runs of tokens, and whether they are learned."""
    names, runs = model.tokenizer.names, []
    for token, label in zip(layout.ids, layout.labels):
        learned = label != IGNORED
        assert not learned or label == token
        if not runs or runs[-1][1] != learned:
            runs.append(([], learned))
        runs[-1][0].append(names[token])
    return [(" ".join(words).replace(" <im_patch>", ""), learned) for words, learned in runs]


def test_only_replies_and_their_end_are_learned():
    model = untrained_toy()
    found = Dialogue(["what color ?", PICTURE, "red", "what shape ?", "a ring"], [2, 4])
    assert decoded(model, found.layout(model)) == [
        ("<s> question : what color ? <im_start> <im_end> answer :", False),
        ("red </s>", True),
        ("question : what shape ? answer :", False),
        ("a ring </s>", True),
    ]


@pytest.mark.parametrize("load", [untrained_toy, tiny_official])
@pytest.mark.parametrize(
    "turn", [["a star"], [PICTURE, "a star"], ["a star", PICTURE], [PICTURE], ["a", PICTURE, "red"]]
)
def test_the_first_turn_is_laid_out_as_for_chat(load, turn):
    model = load()
    asked, _ = turn_layout(model, turn)
    layout = Dialogue([*turn, "red"], [len(turn)]).layout(model)
    assert layout.ids[: len(asked.ids)] == asked.ids
    assert layout.patches == asked.patches and layout.queries == []
    reply = [*model.tokenizer.encode("red"), model.tokenizer.special.eos]
    assert layout.ids[len(asked.ids) :] == reply
    assert layout.labels == [IGNORED] * len(asked.ids) + reply


@pytest.mark.parametrize("turn", [["what color ?"], [PICTURE, "what color ?"]])
def test_dialogues_are_laid_out_as_those_that_the_toy_learns_from(turn):
    model = untrained_toy()
    more = [("what shape ?", "a ring"), ("how many ?", "one")]
    expected, _ = dialogue(model, turn, "red", more)
    items = [*turn, "red", "what shape ?", "a ring", "how many ?", "one"]
    found = Dialogue(items, [len(turn), len(turn) + 2, len(turn) + 4]).layout(model)
    assert found == expected


def test_the_general_text_of_a_template_is_said_once():
    model = tiny_official()
    assert model.config.template == "vicuna_v1.1"
    system, _, _ = TEMPLATES["vicuna_v1.1"][0].rpartition("USER: ")
    encode, eos = model.tokenizer.encode, model.tokenizer.special.eos
    layout = Dialogue(["one", "two", "three", "four"], [1, 3]).layout(model)
    assert layout.ids == [
        model.tokenizer.special.bos,
        *encode(f"{system}USER: one ASSISTANT:"),
        *encode("two"),
        eos,
        *encode("USER: three ASSISTANT:"),
        *encode("four"),
        eos,
    ]


def test_a_model_learns_from_replies_alone():
    model = untrained_toy()
    found = Dialogue([PICTURE, "what color ?", "red"], [2])
    with torch.no_grad():
        losses = model.loss([found], torch.Generator().manual_seed(0))
        layout = found.layout(model)
        _, hidden = model.read([layout], [found])
        learned = torch.tensor(layout.labels[1:]) != IGNORED
        scores = model.llm.logits(hidden[0, :-1][learned]).log_softmax(-1)
        targets = torch.tensor(layout.ids[1:])[learned]
    expected = -scores.gather(1, targets[:, None]).mean()
    torch.testing.assert_close(losses.language, expected)
    assert losses.diffusion == 0 and learned.sum() == 2


def test_a_batch_may_mix_dialogues_with_other_documents():
    model = untrained_toy()
    documents = [Dialogue(["what color ?", "red"], [1]), Document(["a star", PICTURE])]
    with torch.no_grad():
        losses = model.loss(documents, torch.Generator().manual_seed(0))
        layouts = [document.layout(model) for document in documents]
        expected = model.loss_of_layouts(layouts, documents, torch.Generator().manual_seed(0))
    assert losses.diffusion == expected.diffusion > 0
    assert losses.language == expected.language > 0
    assert layouts[1] == lay_out(documents[1], model.tokenizer, model.queries, model.vision.patches)


def test_conversations_on_disk_train_a_model(tmp_path):
    """From the file to the gradient, with words that the toy knows."""
    said = turns("<image>\nwhat color is the star?", "red")
    model = untrained_toy()
    model.llm.requires_grad_(True)
    record = {"id": "7", "image": "1.png", "conversations": said}
    losses = model.loss([dialogue_of(tmp_path, record)])
    losses.total.backward()
    assert losses.language > 0 and losses.diffusion == 0
    assert all(parameter.grad is not None for parameter in model.llm.layers.parameters())


def test_pictures_are_those_of_the_record(tmp_path):
    write_pictures(tmp_path / "images" / "coco" / "train2017", 3)
    records = [llava_record(record, image=f"coco/train2017/{record}.png") for record in range(3)]
    (tmp_path / "list.json").write_text(json.dumps(records), encoding="utf-8")
    for document in data.documents(tmp_path):
        record = int(document.items[-1].split()[-1])
        assert document.images[0].getpixel((0, 0)) == colour_of(record)
