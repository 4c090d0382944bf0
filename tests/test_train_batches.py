"""Lessons: what the DreamLLM is shown has the pictures, targets and labels that it should have."""

import random
import re

import pytest

from minidream.images import to_tensor
from minidream.tokenizers import ToyTokenizer
from minidream.train import batches
from minidream.weights import toy
from minidream.world import is_held_out, parse_caption, sample_edit, sample_scene, sample_story
from minidream.world.judge import read_by_colour
from minidream.world.language import VOCABULARY
from minidream.world.scenes import Scene


@pytest.fixture(scope="module")
def model():
    return toy.new_model(ToyTokenizer(VOCABULARY))


def test_a_story_becomes_a_document_whose_pictures_show_its_scenes():
    rng = random.Random(1)
    for _ in range(10):
        story = sample_story(rng)
        document = batches.document_of(story, 64)
        assert [reading.facts for reading in read_by_colour(to_tensor(document.images))] == [
            scene.facts for scene in story.scenes
        ]
        assert document.targets == tuple(range(len(story.scenes))) and document.text == story.text


def test_the_given_picture_of_an_edit_is_no_target():
    document = batches.document_of(sample_edit(random.Random(2)), 32)
    assert document.targets == (1,) and len(document.images) == 2


@pytest.mark.parametrize(
    "task, painted, learned",
    [
        (batches.text_only, False, True),
        (batches.restated, False, True),
        (batches.paraphrases, False, True),
        (batches.text_stories, False, True),
        (batches.captions, False, True),
        (batches.text_to_image, True, False),
        (batches.simple_text_to_image, True, False),
        (batches.stories, True, True),
        (batches.edits, True, False),
        (batches.questions, False, True),
    ],
)
def test_each_task_trains_what_it_is_for(model, task, painted, learned):
    layouts, documents = task(random.Random(3), 6, model)
    assert len(layouts) == len(documents) == 6
    assert all(bool(layout.queries) == painted for layout in layouts)
    assert all(any(label >= 0 for label in layout.labels) == learned for layout in layouts)
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


def test_some_prompts_leave_the_size_open_and_are_sound_english():
    rng = random.Random(4)
    prompts = [
        (batches.prompt_for(scene, rng, 0.75, 0.5), scene)
        for scene in (sample_scene(rng) for _ in range(400))
    ]
    unsized = [prompt for prompt, _ in prompts if parse_caption(prompt) is None]
    assert 20 <= len(unsized) <= 90
    assert any("an orange" in prompt for prompt in unsized) and not any(
        "a orange" in prompt for prompt in unsized
    )
    for prompt, scene in prompts:
        stated = parse_caption(prompt)
        assert not is_held_out(scene) and (stated is None or stated[1:] == scene.facts[1:])


def test_texts_alone_are_asked_five_times_about_how_things_are_now(model):
    layouts, documents = batches.text_only(random.Random(5), 20, model)
    assert all(not document.items for document in documents), "no picture"
    changed = 0
    for layout in layouts:
        told, *turns = " ".join(map(model.tokenizer.label, layout.ids)).split(" question : ")
        assert len(turns) == 5 and all(turn.endswith("</s>") for turn in turns)
        replies = [turn.split(" answer : ")[1].removesuffix(" </s>") for turn in turns]
        (description,) = [reply for reply in replies if "background" in reply]
        now = parse_caption(description)
        text = turns[0].split(" ? answer")[0].rsplit(" . ", 1)[0]
        changed += parse_caption(text) != now
        assert now is not None
    assert 2 <= changed <= 12  # three in ten


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
        caption = batches.varied_caption(scene, rng, leading, between)
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
        assert batches.description(scene) == batches.description(turned)
        assert parse_caption(batches.description(scene)) == scene.facts
        assert parse_caption(batches.description(scene, background=False)) == (
            None,
            *scene.facts[1:],
        )
        assert re.match(r"a \w+ \w+ \w+ (left of|above) a", batches.description(scene))
