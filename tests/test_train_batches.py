"""Lessons: what the DreamLLM is shown has the pictures, targets and labels that it should have."""

import random
import re

import pytest

from minidream.documents import Document
from minidream.images import to_tensor
from minidream.tokenizers import ToyTokenizer
from minidream.train import batches, stages, words
from minidream.trainer import lessons
from minidream.weights import toy
from minidream.world import (
    is_held_out,
    language,
    parse_caption,
    sample_edit,
    sample_scene,
    sample_story,
    wordings,
)
from minidream.world.judge import Reading, read_by_colour
from minidream.world.language import INVENTED_NAMES, VOCABULARY, parse_prompt
from minidream.world.scenes import BACKGROUNDS, COLOURS, SHAPES, Scene
from minidream.world.stories import sample_named_edit


@pytest.fixture(scope="module")
def model():
    return toy.new_model(ToyTokenizer(VOCABULARY))


def test_a_story_becomes_a_document_whose_pictures_show_its_scenes():
    rng = random.Random(1)
    for _ in range(10):
        story = sample_story(rng)
        document = lessons.document_of(story, 64)
        assert [reading.facts for reading in read_by_colour(to_tensor(document.images))] == [
            scene.facts for scene in story.scenes
        ]
        assert document.targets == tuple(range(len(story.scenes))) and document.text == story.text


def test_the_given_picture_of_an_edit_is_no_target():
    document = lessons.document_of(sample_edit(random.Random(2)), 32)
    assert document.targets == (1,) and len(document.images) == 2


@pytest.mark.parametrize(
    "task, painted, learned",
    [
        (words.answered, False, True),
        (words.restated, False, True),
        (words.paraphrases, False, True),
        (words.asked, False, True),
        (words.named_edits, False, True),
        (words.decided, False, True),
        (words.decided_in_any_words, False, True),
        (words.noted_briefly, False, True),
        (words.placed, False, True),
        (words.noted, False, True),
        (words.stories_told, False, True),
        (batches.captions, False, True),
        (batches.text_to_image, True, False),
        (batches.simple_text_to_image, True, False),
        (batches.stories, True, True),
        (batches.edits, True, None),  # half of them learn a thought
        (batches.decided_edits, False, True),
        (batches.questions, False, True),
        (batches.yes_or_no, False, True),
    ],
)
def test_each_task_trains_what_it_is_for(model, task, painted, learned):
    layouts, documents = task(random.Random(3), 6, model)
    assert len(layouts) == len(documents) == 6
    assert all(bool(layout.queries) == painted for layout in layouts)
    learning = {any(label >= 0 for label in layout.labels) for layout in layouts}
    assert learning == ({True, False} if learned is None else {learned})
    special = model.tokenizer.special
    never = {
        special.im_patch,
        special.im_start,
        special.im_end,
        special.dream_end,
        special.bos,
        special.pad,
    }
    assert not any(label in never for layout in layouts for label in layout.labels)
    assert all(
        number < len(document.images)
        for layout, document in zip(layouts, documents)
        for number, _ in [*layout.patches, *layout.queries]
    )


def test_prompts_leave_out_what_people_leave_out_and_are_sound_english():
    rng = random.Random(4)
    prompts = [
        (wordings.prompt_for(scene, rng, 0.75, 0.5), scene)
        for scene in (sample_scene(rng, count=2) for _ in range(400))
    ]
    without = {"size": 0, "colour": 0, "relation": 0}
    for prompt, scene in prompts:
        asked = parse_prompt(prompt)
        assert Reading(scene.facts).agrees(asked) and not is_held_out(scene), prompt
        _, relation, ((size, colour, _), _) = asked
        for name, said in (("size", size), ("colour", colour), ("relation", relation)):
            without[name] += said is None
    assert 110 <= without["size"] <= 190 and 30 <= without["colour"] <= 75
    assert 70 <= without["relation"] <= 130
    texts = [prompt for prompt, _ in prompts]
    assert any("an orange" in text for text in texts)
    assert not any("a orange" in text for text in texts)
    assert any(" and a" in text for text in texts)


def told(model, layout):
    """The text of a row without its special tokens."""
    return " ".join(map(model.tokenizer.label, layout.ids))


def test_texts_alone_are_asked_five_times_about_how_things_are_now(model):
    layouts, documents = words.answered(random.Random(5), 40, model)
    assert all(not document.items for document in documents), "no picture"
    changed = known = 0
    for layout in layouts:
        _, *turns = told(model, layout).split(" question : ")
        assert len(turns) == 5 and all(turn.endswith("</s>") for turn in turns)
        replies = [turn.split(" answer : ")[1].removesuffix(" </s>") for turn in turns]
        (description,) = [reply for reply in replies if "background" in reply]
        now = parse_caption(description)
        if now is None:
            continue  # invented names
        known += 1
        text = turns[0].split(" ? answer")[0].rsplit(" . ", 1)[0]
        changed += parse_caption(text) != now
    assert 12 <= known <= 28, "half have invented names"
    assert 2 <= changed <= 12  # three in ten


def test_tasks_take_turns_and_later_ones_begin_at_their_steps(model):
    stage = stages.DocumentStage("llm", model)

    def named(name):
        return lambda rng, batch_size, model: (name, batch_size)

    stage.tasks = ((named("one"), 1.0), (named("two"), 0.5))
    stage.later_tasks = {3: ((named("three"), 1.0),), 5: ((named("four"), 2.0),)}
    drawn, size = [stage.batch(0, step, 0) for step in range(7)], stage.recipe.batch
    assert [name for name, _ in drawn] == ["one", "two", "one", "three", "three", "four", "four"]
    assert [count for _, count in drawn] == [size, size / 2, size, size, size, *[2 * size] * 2]


@pytest.mark.parametrize(
    "task", (words.decided, words.noted_briefly, words.placed, batches.decided_edits)
)
def test_a_note_teaches_its_last_word_alone(model, task):
    for layout in task(random.Random(6), 20, model)[0]:
        assert [label >= 0 for label in layout.labels] == [False] * (len(layout.ids) - 1) + [True]


def test_a_deciding_word_of_an_edit_comes_in_a_thought_or_as_an_answer(model):
    ends = {"now there is a ": 0, "now ? answer : a ": 0}
    for layout in words.decided(random.Random(7), 40, model)[0]:
        (end,) = [end for end in ends if end in told(model, layout)]
        ends[end] += 1
    assert min(ends.values()) >= 10


def test_half_of_the_edits_of_pictures_bring_in_what_has_an_invented_name(model):
    texts = [
        told(model, layout) for layout in batches.decided_edits(random.Random(8), 200, model)[0]
    ]
    brought = [text for text in texts if re.search(r" is (a )?(?!smaller|larger)\w+ \. now", text)]
    invented = [text for text in brought if set(text.split()) & set(INVENTED_NAMES)]
    assert 0.3 < len(invented) / len(brought) < 0.6


def test_only_answers_are_learned_of_questions_about_texts(model):
    for layout in words.asked(random.Random(9), 10, model)[0]:
        learned = [token for token, label in zip(layout.ids, layout.labels) if label >= 0]
        assert learned[1::2] == [model.tokenizer.special.eos] * 5, "one word each"


def test_invented_names_replace_all_names_consistently():
    rng = random.Random(2)
    texts = ["a large red star left of a small blue ring", "the ring turns red."]
    first, second = language.with_invented_names(texts, rng)
    renamed = dict(zip(texts[0].split(), first.split()))
    assert second == f"the {renamed['ring']} turns {renamed['red']}."
    assert renamed["large"] == "large" and renamed["left"] == "left"
    assert len(set(renamed.values())) == len(renamed)
    named = {renamed[word] for word in ("red", "star", "blue", "ring")}
    assert named <= set(language.INVENTED_NAMES)
    assert not set(language.INVENTED_NAMES) & {*COLOURS, *SHAPES, *BACKGROUNDS}


def test_restated_texts_end_with_what_is_there_then(model):
    """The learned words are the plain description of the resulting scene and nothing else."""
    tokenizer, rng = model.tokenizer, random.Random(1)
    layouts, _ = words.restated(rng, 60, model)
    kinds = set()
    for layout in layouts:
        learned = [token for token, label in zip(layout.ids, layout.labels) if label != -100]
        reply = tokenizer.decode(learned).removesuffix("</s>").strip()
        assert re.fullmatch(
            r"a \w+ \w+ \w+( (left of|above) a \w+ \w+ \w+)? on a \w+ background", reply
        )
        kinds.add("thought" if lessons.OPENING in tokenizer.decode(layout.ids) else "answer")
    assert kinds == {"thought", "answer"}


def test_named_edits_say_which_of_two_objects_changes():
    rng = random.Random(3)
    for _ in range(100):
        before, _, after = sample_named_edit(rng).items
        assert len(before.objects) == 2 and not is_held_out(after)
        assert before.facts != after.facts


# --------------------------------------------------------------------------------------------------
# Thoughts


def test_a_thought_says_what_the_next_picture_shows():
    rng = random.Random(6)
    for _ in range(50):
        story = sample_story(rng)
        thoughtful = lessons.thinking(story, rng)
        assert thoughtful.scenes == story.scenes
        items = thoughtful.items
        thoughts = [place for place, item in enumerate(items) if item in lessons.OPENINGS]
        assert len(thoughts) == len(story.scenes) - 1, "the first needs none"
        for place in thoughts:
            assert parse_caption(items[place + 1]) == items[place + 2].facts
        assert lessons.thinking(story, rng, share=0.0) == story
    edit = lessons.thinking(sample_edit(rng), rng)
    assert edit.given == (0,) and edit.items[2] == ". now there is"


def test_a_thought_is_learned_and_its_opening_is_not(model):
    """As `dream(think=True)` forces the opening, and reads the thought as it is written here."""
    story = lessons.thinking(sample_edit(random.Random(7)), random.Random(0))
    document = lessons.document_of(story, 64)
    (layout,), _ = lessons.laid_out([document], model, learn_text=False, read_last=False)
    learned = [token for token, label in zip(layout.ids, layout.labels) if label != -100]
    text = model.tokenizer.decode(learned)
    assert text.startswith(language.description(story.scenes[1])) and "now there" not in text
    assert model.tokenizer.special.dream_start in learned
    prompt = Document(document.items[:2], targets=[])
    asked = prompt.with_thought(lessons.OPENING, document.items[3])
    as_dreamt = model.prompt_layout(asked)
    assert layout.ids[: len(as_dreamt.ids)] == as_dreamt.ids


def names_the_leading_thing_first(caption, scene):
    (_, number), *_ = [role for role in caption.roles if role and role[0] == "shape"]
    first, second = scene.objects[number], scene.objects[1 - number]
    return first.x < second.x if scene.relation in ("left of", "right of") else first.y < second.y


@pytest.mark.parametrize("leading, between", [(0.5, 0.5), (0.75, 0.5), (0.5, 0.75), (1.0, 1.0)])
def test_captions_put_the_leading_thing_first_and_the_relation_between_as_often_as_asked_for(
    leading, between
):
    rng = random.Random(0)
    first, between_names = [], []
    for _ in range(600):
        scene = sample_scene(rng, count=2)
        caption = wordings.varied_caption(scene, rng, leading, between)
        assert parse_caption(caption.text)[1:] == scene.facts[1:]
        first.append(names_the_leading_thing_first(caption, scene))
        named = [role[0] for role in caption.roles if role and role[0] in ("shape", "relation")]
        between_names.append(named[0] == "shape" and named[1] == "relation")
    for wanted, found in ((leading, first), (between, between_names)):
        assert abs(sum(found) / len(found) - wanted) < (0.06 if wanted < 1 else 1e-9)


def test_a_description_is_the_same_whichever_thing_stands_first_in_a_scene():
    rng = random.Random(1)
    for _ in range(50):
        scene = sample_scene(rng, count=2)
        turned = Scene(scene.objects[::-1], scene.background)
        assert language.description(scene) == language.description(turned)
        assert parse_caption(language.description(scene)) == scene.facts
        assert parse_caption(language.description(scene, background=False)) == (
            None,
            *scene.facts[1:],
        )
        assert re.match(r"a \w+ \w+ \w+ (left of|above) a", language.description(scene))
