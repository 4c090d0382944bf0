"""Plug-ins: transcripts and calls, by hand and with scripted language models."""

import random

from families_shared import RING
from torch import nn

from minidream.families import plugin, samples
from minidream.tokenizers import ToyTokenizer
from minidream.trainer.lessons import pictures
from minidream.weights import toy
from minidream.world.language import VOCABULARY
from minidream.world.questions import DESCRIBE
from minidream.world.scenes import Scene, SceneObject


def test_transcripts_by_hand():
    blue = Scene((SceneObject("ring", "blue", "large"),), "gray")
    paint = samples.Sample("paint", ("a big green ring",), None, (RING,), RING.facts)
    assert plugin.transcript(paint) == [("a big green ring", 'draw ( " a big green ring " )')]
    edit = samples.Sample(
        "edit",
        (pictures([RING], toy.IMAGE_SIZE)[0], "the same but blue"),
        None,
        (RING, blue),
        blue.facts,
    )
    call = 'look ( image, " describe the picture. " )'
    assert plugin.transcript(edit) == [
        ("image the same but blue", call),
        (
            f"image the same but blue answer: {call} question: "
            "a large green ring on a gray background",
            'draw ( " a large blue ring on a gray background " )',
        ),
    ]
    question = samples.Sample(
        "question", (edit.given[0], "what color is the ring?"), "green", (RING,), RING.facts
    )
    call = 'look ( image, " what color is the ring? " )'
    assert plugin.transcript(question) == [
        ("image what color is the ring?", call),
        (f"image what color is the ring? answer: {call} question: green", "green"),
    ]


def test_calls_come_back_from_the_tokenizer():
    tokenizer = ToyTokenizer([*VOCABULARY, *plugin.WORDS])
    for text, pattern, said in (
        (plugin.look_call(DESCRIBE), plugin.LOOK_PATTERN, DESCRIBE),
        (plugin.draw_call("a small red star"), plugin.DRAW_PATTERN, "a small red star"),
    ):
        written = tokenizer.decode(tokenizer.encode(text))
        assert pattern.fullmatch(written)[1] == said
    assert not plugin.DRAW_PATTERN.fullmatch(
        'draw ( " a star'
    ) and not plugin.LOOK_PATTERN.fullmatch("green")


class Scripted:
    """A language model that answers from a list and remembers what it was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []
        self.tokenizer = ToyTokenizer(VOCABULARY)

    def chat(self, turn, max_new_tokens):
        self.asked.append(turn)
        return self.answers.pop(0)


def scripted(planner, captioner=()):
    """A plug-in system whose two language models are `Scripted`."""
    system = plugin.Plugin.__new__(plugin.Plugin)
    nn.Module.__init__(system)
    eyes = nn.Module()
    eyes.model = Scripted(*captioner)
    system.model, system.earlier_phases = Scripted(*planner), (eyes,)
    return system


def test_results_of_tools_go_back_into_the_context():
    sample = samples.draw_sample("edit", random.Random(0))
    given = plugin.input_text(sample.given)
    system = scripted(
        [plugin.look_call(DESCRIBE), plugin.draw_call("a small red star")], ["a small green star"]
    )
    assert system.solve(sample) == plugin.draw_call("a small red star")
    assert system.captioner.asked == [[sample.pictures[0], DESCRIBE]]
    assert system.model.asked == [
        given,
        plugin.with_result(given, plugin.look_call(DESCRIBE), "a small green star"),
    ]
    assert (
        scripted([plugin.look_call(DESCRIBE)] * 3, ["a star"] * 3).solve(sample) is None
    )  # never came to an end
    assert (
        scripted([plugin.look_call(DESCRIBE)]).solve(samples.draw_sample("paint", random.Random(0)))
        is None
    )  # nothing to look at


def test_a_call_that_no_tool_can_carry_out_paints_nothing(monkeypatch):
    long = " ".join(["a"] * 31)
    system = scripted(
        [
            plugin.draw_call("a small red star"),
            "a small red star",
            plugin.draw_call("a look star"),
            plugin.draw_call(long),
        ]
    )
    drawn = []
    monkeypatch.setattr(
        plugin,
        "paint_from_captions",
        lambda model, captions: drawn.extend(captions) or ["picture"] * len(captions),
    )
    paint = [samples.draw_sample("paint", random.Random(seed)) for seed in range(4)]
    assert system.replies(paint) == ["picture", None, None, None] and drawn == [
        "a small red star",
        "",
        "",
        "",
    ]


def test_text_replies_are_what_was_written_last():
    question = samples.draw_sample("question", random.Random(0))
    never_ends = [plugin.look_call(DESCRIBE)] * plugin.MAX_CALLS
    system = scripted(["green", *never_ends], ["a star"] * plugin.MAX_CALLS)
    assert system.replies([question, question]) == ["green", ""]


def test_a_question_that_the_captioner_cannot_read_has_an_empty_answer():
    def unreadable(turn, max_new_tokens):
        raise ValueError("unknown word")

    system = scripted([])
    system.captioner.chat = unreadable
    assert system.answer_about(None, "draw?") == ""
