"""The family tree: each family's own idea, worked by hand or against a reference, on boxes of a few numbers."""

import random
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

from minidream import llm as llms
from minidream.documents import IGNORED, Document, lay_out
from minidream.families import (
    adapter,
    alignment,
    boxes,
    codebook,
    cross_attention,
    evaluation,
    family,
    flamingo,
    lora,
    metaqueries,
    plugin,
    qformer,
    referring,
    samples,
)
from minidream.images import to_tensor
from minidream.llm import LLM, LLMConfig
from minidream.studies import family_example, family_runs
from minidream.tokenizers import ToyTokenizer
from minidream.train.lessons import pictures
from minidream.weights import parts, toy
from minidream.world import is_held_out
from minidream.world.judge import read_by_colour
from minidream.world.language import DESCRIBE, VOCABULARY, parse_caption
from minidream.world.scenes import Scene, SceneObject, sample_scene
from minidream.world.stories import Story

PLAN = family.FamilyPlan(steps=4, batch=3, prompts=1)
RING = Scene((SceneObject("ring", "green", "large", x=0.6, y=0.4),), "gray")


@pytest.fixture(scope="module")
def base():
    return parts.toy_before("stage1-comprehension")


@pytest.fixture(autouse=True)
def shared(base, monkeypatch):
    """The pretrained parts are read once; every family gets a copy."""
    monkeypatch.setattr(family.parts, "toy_before", lambda name: deepcopy(base))


def tiny_llm(seed: int = 0) -> LLM:
    """Three layers, four heads over two key/value heads of 2 numbers each."""
    llm = LLM(
        LLMConfig(
            vocab_size=11,
            hidden_size=8,
            intermediate_size=6,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    )
    llm.initialize(torch.Generator().manual_seed(seed), std=0.5)
    return llm.requires_grad_(False)


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --------------------------------------------------------------------------------------------------
# Boxes and samples


def test_a_box_that_fits_the_pixels_comes_back_from_its_words():
    assert boxes.BINS == toy.IMAGE_SIZE + 1
    rng = random.Random(0)
    for _ in range(50):
        (left, right), (top, bottom) = (sorted(rng.sample(range(33), 2)) for _ in range(2))
        box = (left / 32, top / 32, right / 32, bottom / 32)
        assert (
            boxes.words_of_box(box) == f"{left} {top} {right} {bottom}"
            and boxes.box_of_words(boxes.words_of_box(box)) == box
        )
    for wrong in ("", "3 5 17", "3 5 17 19 20", "17 5 3 19", "3 5 17 5", "3 5 17 33"):
        assert boxes.box_of_words(wrong) is None


def test_the_box_of_a_mask_by_hand():
    mask = torch.zeros(4, 8)  # not square, so that width and height cannot be exchanged
    mask[1:3, 2:7], mask[0, 0] = 0.5, 0.4
    assert boxes.box_around(mask) == (2 / 8, 1 / 4, 7 / 8, 3 / 4)
    with pytest.raises(ValueError, match="nothing to put a box around"):
        boxes.box_around(mask * 0.9)


def test_overlap_by_hand():
    one, other = (0.0, 0.0, 0.5, 0.25), (0.25, 0.0, 0.75, 0.25)
    assert boxes.box_iou(one, other) == pytest.approx(1 / 3) and boxes.box_iou(one, one) == 1
    assert (
        boxes.box_iou(one, (0.5, 0.0, 1.0, 0.25)) == boxes.box_iou(one, (0.6, 0.6, 0.7, 0.9)) == 0
    )


@pytest.mark.parametrize("kind", samples.SAMPLE_KINDS)
@pytest.mark.parametrize("held_out", [False, True])
def test_a_sample_is_true_and_of_one_thing(kind, held_out):
    rng, again = random.Random(kind), random.Random(kind)
    for _ in range(8):
        sample, other = (
            samples.draw_sample(kind, rng, held_out),
            samples.draw_sample(kind, again, held_out),
        )
        assert (sample.scenes, sample.follow_ups, sample.expected) == (
            other.scenes,
            other.follow_ups,
            other.expected,
        )
        assert sample.kind == kind and all(len(scene.objects) == 1 for scene in sample.scenes)
        assert is_held_out(sample.scenes[-1]) == held_out and not any(
            map(is_held_out, sample.scenes[:-1])
        )
        shown = sample.pictures + ([sample.reply] if kind in samples.IMAGE_KINDS else [])
        assert [reading.facts for reading in read_by_colour(to_tensor(shown))] == [
            scene.facts for scene in sample.scenes
        ]
        background, *looks = sample.expected
        assert tuple(looks) == sample.scenes[-1].facts[1:] and background in (
            None,
            sample.scenes[-1].background,
        )
        assert parse_caption(sample.caption)[1:] == sample.scenes[-1].facts[1:]
        assert (kind in samples.IMAGE_KINDS) != isinstance(sample.reply, str) and len(
            sample.follow_ups
        ) == (3 if kind in ("question", "verify") else 0)


def test_half_of_the_boxes_that_are_asked_about_are_the_things_own():
    rng, said = random.Random(0), []
    for _ in range(60):
        question, reply = samples.box_question(RING, rng)
        found = boxes.box_iou(boxes.box_of_words(question), samples.true_box(RING))
        assert (
            found > 0.99 if reply == "yes" else found < 0.2
        )  # away by a tenth, before its sides were rounded
        said.append(reply)
    assert 20 < said.count("yes") < 40
    # Where a box stands on the picture does not tell: nearness to an edge is the same in both halves.
    near = {"yes": [], "no": []}
    for _ in range(400):
        question, reply = samples.box_question(sample_scene(rng, count=1), rng)
        left, top, right, bottom = boxes.box_of_words(question)
        near[reply].append(min(left, top, 1 - right, 1 - bottom))
    assert (
        min(near["no"]) > 0
        and abs(sum(near["yes"]) / len(near["yes"]) - sum(near["no"]) / len(near["no"])) < 0.02
    )
    assert samples.where_question(RING, rng)[1] == boxes.words_of_box(samples.true_box(RING))
    with pytest.raises(ValueError, match="'sing' is none of paint, "):
        samples.draw_sample("sing", rng)


def test_replies_are_marked_by_what_they_say():
    def mark(kind, wanted, reply):
        return evaluation.text_score(samples.Sample(kind, (), wanted, (RING,), RING.facts), reply)

    assert (
        mark("caption", "", "on a gray background, a big green ring") == 1
        and mark("caption", "", "a large green ring") == 3 / 4
    )  # the background is missing
    assert mark("caption", "", "a small green star on a gray background") == 1 / 2
    assert (
        mark("caption", "", "a large green ring above a small red star on a gray background")
        == mark("caption", "", "a ring")
        == 0
    )
    assert mark("question", "green", "green") == 1 and mark("question", "green", "green green") == 0
    assert [mark("locate", "4 4 12 12", box) for box in ("4 5 12 13", "9 4 17 12", "4 4")] == [
        1,
        0,
        0,
    ]


def test_an_exam_asks_what_it_says_and_chance_is_what_it_was_drawn_with():
    sheet = evaluation.FamilyEvaluation(family.FamilyPlan(prompts=30), seed=0)
    assert [
        is_held_out(sample.scenes[-1])
        for name, held_out in evaluation.COMBINATIONS.items()
        for sample in sheet.samples("caption", held_out)
    ] == [False] * 30 + [True] * 30
    assert list(evaluation.COMBINATIONS) == ["seen", "held out"]
    assert (
        evaluation.FamilyEvaluation(family.FamilyPlan(prompts=3), seed=1)
        .samples("paint", False)[0]
        .given
        != sheet.samples("paint", False)[0].given
    )
    chance = sheet.chance()
    assert set(chance) == set(samples.SAMPLE_KINDS) and chance["paint"]["seen"]["right"] <= 2
    assert all(
        0.15 < chance[kind]["seen"]["facts"] < 0.4 for kind in ("paint", "caption", "story", "edit")
    )  # (1/2 + 1/8 + 1/6 + 1/3) / 4 is 0.28
    assert (
        chance["question"]["seen"]["facts"] > 0.2 and 0.2 < chance["verify"]["seen"]["facts"] < 0.8
    )
    truth = [sheet.samples(kind, False) for kind in samples.SAMPLE_KINDS]
    located = sheet.samples("locate", False)[:2]
    assert (
        sheet.score(located, [located[0].reply, "no box"])
        == {"right": 1, "facts": 0.5, "overlap": 0.5}
        and chance["locate"]["seen"]["overlap"] < 0.3
    )
    assert all(
        sheet.score(asked, [sample.reply for sample in asked])["right"] >= 29 for asked in truth
    )


def test_pictures_are_marked_by_the_judge():
    judge, sample = toy.pretrained_judge(), samples.Sample("paint", (), "", (RING,), RING.facts)
    anywhere = samples.Sample("paint", (), "", (RING,), (None, *RING.facts[1:]))
    right, on_black = pictures([RING, Scene(RING.objects, "black")], toy.IMAGE_SIZE)
    assert evaluation.image_scores(
        judge, [sample, sample, anywhere, sample], [right, on_black, on_black, None]
    ) == [1, 3 / 4, 1, 0]
    assert evaluation.image_scores(judge, [sample], [None]) == [0]


def test_whether_a_thing_stayed_where_it_was_is_read_from_pixels():
    edits = [samples.draw_sample("edit", random.Random(number)) for number in range(40)]
    stay = [sample for sample in edits if evaluation.keeps_position(sample)]
    assert 10 < len(stay) < 40 and all(
        sample.given[-1].endswith(("er",))
        for sample in edits
        if not evaluation.keeps_position(sample)
    )  # larger, smaller
    assert all(evaluation.painted_in_place(stay, [sample.reply for sample in stay]))
    elsewhere = evaluation.painted_in_place(stay, [sample.reply for sample in stay[1:] + stay[:1]])
    assert sum(elsewhere) < len(stay) / 4
    assert evaluation.painted_in_place(stay[:2], [None, stay[1].reply]) == [False, True]


def test_the_running_example_is_one_scene_in_every_kind(base):
    asked = {kind: family_example.running(kind) for kind in samples.SAMPLE_KINDS}
    assert (
        asked["paint"].given == ("a large green ring on a gray background",)
        and asked["caption"].reply == asked["paint"].given[0]
    )
    assert asked["edit"].given[1] == "the same but yellow" and asked["story"].expected == asked[
        "edit"
    ].expected == ("gray", None, (("large", "yellow", "ring"),))
    assert (
        asked["question"].given[1:] == ("what colour is the ring?",)
        and asked["question"].reply == "green"
    )
    assert asked["locate"].reply == boxes.words_of_box(samples.true_box(family_example.RUNNING))
    assert not is_held_out(family_example.RUNNING) and not any(
        is_held_out(scene) for scene in asked["edit"].scenes
    )
    back = family_example.of_png(family_example.as_png(asked["paint"].reply))
    assert torch.equal(to_tensor([back]), to_tensor([asked["paint"].reply]))
    system = family_runs.build(family_runs.FAMILIES["dreamllm"][1], PLAN, 0)
    replies = family_example.example_of(system)
    assert (
        set(replies) == set(system.kinds)
        and isinstance(replies["caption"], str)
        and family_example.of_png(replies["edit"]).size == (32, 32)
    )
    seeds = [
        {"seed": seed, "example": {**replies, "caption": said, "paint": None}}
        for seed, said in ((3, "one"), (4, "two"), (5, "one"))
    ]
    assert (
        family_example.replies_of(seeds, "paint") == [None] * 3
        and family_example.replies_of(seeds, "locate") == []
        and family_example.replies_of(seeds, "edit")[2].size == (32, 32)
    )
    assert "| a | one / two |" in family_example.table_of_replies({"a": seeds}, ("caption",)).data
    assert [
        axis.get_title() for axis in family_example.plot_replies({"a": seeds}, "edit").axes
    ] == ["given", "asked for", "seed 3", "seed 4", "seed 5"]
    assert len(family_example.plot_replies({"a": seeds, "b": seeds}, "paint").axes) == 2 * 4


def test_more_words_change_nothing_for_the_old_ones(base):
    model = family.with_new_words(base, ("where", "7"))
    tokenizer = model.tokenizer
    assert len(tokenizer) == len(base.tokenizer) + 2 and tokenizer.encode("a 7 ring where?")[
        ::2
    ] == base.tokenizer.encode("a ring?")
    ids = torch.tensor([base.tokenizer.encode("a large red circle")])
    old, new = (each.llm.logits(each.llm(each.llm.embed_tokens(ids))) for each in (base, model))
    torch.testing.assert_close(new[..., :-2], old)
    assert model.llm.embed_tokens.weight[-2:].std() > 0.5  # as loud as words
    assert (
        ToyTokenizer([*VOCABULARY, *referring.WORDS]).decode([len(base.tokenizer) + 2 + 31]) == "31"
    )


# --------------------------------------------------------------------------------------------------
# Light adaptation


def test_lora_starts_as_nothing_and_merges_into_the_same():
    llm, plain, embeddings = tiny_llm(), tiny_llm(), noise(2, 5, 8)
    added = lora.add_lora(llm, rank=2)
    assert len(added) == 3 * 7 and not any(isinstance(part, lora.LoRA) for part in plain.modules())
    assert torch.equal(llm(embeddings), plain(embeddings))
    for number, detour in enumerate(added):
        nn.init.normal_(detour.up.weight, generator=torch.Generator().manual_seed(number))
    apart = llm(embeddings)
    assert (apart - plain(embeddings)).abs().max() > 0.1
    lora.merge_lora(llm)
    assert {name for name, _ in llm.named_parameters()} == {
        name for name, _ in plain.named_parameters()
    }
    torch.testing.assert_close(llm(embeddings), apart, rtol=1e-4, atol=1e-5)


def test_lora_by_hand():
    linear = nn.Linear(3, 2, bias=False)
    detour = lora.LoRA(linear, rank=1)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0]]))
        detour.down.weight.copy_(torch.tensor([[0.0, 0, 2]]))
        detour.up.weight.copy_(torch.tensor([[1.0], [-1]]))
    assert detour(torch.tensor([3.0, 4, 5])).tolist() == [
        13,
        -6,
    ] and detour.merged().weight.tolist() == [[1, 0, 2], [0, 1, -2]]


def test_an_adapter_with_closed_gates_changes_nothing_and_one_prompt_adds_its_value():
    llm, embeddings = tiny_llm(), noise(2, 5, 8)
    attention = llm.layers[0].self_attn
    wanted, inner = llm(embeddings), attention.attend
    attention.attend = adapted = adapter.AdaptedAttention(attention, prompts=1)
    with pytest.raises(ValueError, match="2 rows need as many pictures, and 0 are set"):
        llm(embeddings)
    adapted.picture = noise(2, 8, seed=2)
    assert torch.equal(llm(embeddings), wanted)
    with torch.no_grad():
        adapted.gate.copy_(torch.tensor([0.0, 0.5, 1.0, -1.0]))
    query, key, value = (
        noise(2, 4, 5, 2, seed=3),
        noise(2, 4, 5, 2, seed=4),
        noise(2, 4, 5, 2, seed=5),
    )
    # A softmax over one prompt is 1 for every query: each of two query heads gets the value of the head that they share.
    values = attention.v_proj(adapted.prompts + adapted.picture[:, None])[:, 0].reshape(2, 2, 2)
    added = adapted(query, key, value, None) - inner(query, key, value, None)
    for head in range(4):
        wanted = torch.tanh(adapted.gate[head]) * values[:, head // 2]
        torch.testing.assert_close(added[:, head], wanted[:, None].expand(2, 5, 2))


def test_flamingos_gates_start_closed_and_keep_the_order_of_time():
    llm, embeddings = tiny_llm(), noise(2, 5, 8)
    wanted = llm(embeddings)
    llm.layers[1] = gated = flamingo.GatedLayer(llm.layers[1], dim=8, context_dim=4)
    with pytest.raises(ValueError, match="2 rows need as many pictures, and 0 are set"):
        llm(embeddings)
    gated.picture = noise(2, 3, 4, seed=2)
    assert torch.equal(llm(embeddings), wanted)
    with torch.no_grad():
        gated.gates.fill_(1.0)
    opened = llm(embeddings)
    assert (opened - wanted).abs().amax(dim=(1, 2)).min() > 1e-3
    later = embeddings.clone()
    later[:, 3:] += 1
    torch.testing.assert_close(llm(later)[:, :3], opened[:, :3])
    gated.picture = torch.stack([gated.picture[0], gated.picture[1] + 1])
    torch.testing.assert_close(llm(embeddings)[0], opened[0])  # every row looks at its own picture


@pytest.mark.parametrize("patches", [3, 7])
def test_a_resampler_and_a_query_former_give_as_many_tokens_whatever_they_see(patches):
    seen = noise(2, patches, 8)
    for module, width in (
        (flamingo.Resampler(8, tokens=5), 8),
        (qformer.QueryFormer(8, 6, tokens=5, layers=2), 6),
    ):
        found = module(seen)
        assert found.shape == (2, 5, width)
        torch.testing.assert_close(
            module(seen.flip(1)), found, rtol=1e-4, atol=1e-5
        )  # patches are a set: places come from CLIP
        assert (
            module(seen * torch.tensor([1.0, -1.0])[:, None, None])[0] - found[0]
        ).abs().max() < 1e-5


def test_cross_attention_is_torchs():
    ours, theirs = (
        cross_attention.CrossAttention(8, 6, 8, heads=2),
        nn.MultiheadAttention(8, 2, bias=False, kdim=6, vdim=6, batch_first=True),
    )
    with torch.no_grad():
        for name, weight in (
            ("q_proj", theirs.q_proj_weight),
            ("k_proj", theirs.k_proj_weight),
            ("v_proj", theirs.v_proj_weight),
            ("o_proj", theirs.out_proj.weight),
        ):
            getattr(ours, name).weight.copy_(weight)
    hidden, seen = noise(2, 3, 8), noise(2, 5, 6, seed=2)
    torch.testing.assert_close(
        ours(hidden, seen), theirs(hidden, seen, seen, need_weights=False)[0], rtol=1e-4, atol=1e-5
    )


def test_a_picture_takes_as_many_places_as_the_query_former_has_tokens(base):
    system, sample = (
        family_runs.build(family_runs.FAMILIES["qformer"][1], PLAN, 0),
        samples.draw_sample("caption", random.Random(0)),
    )
    model, (layout, _) = system.model, system.lay_out(sample)
    assert (
        model.vision.patches
        == qformer.TOKENS
        == layout.ids.count(model.tokenizer.special.im_patch)
        < base.vision.patches
    )
    assert model.vision(model.vision.pixels(sample.pictures)).shape == (
        1,
        qformer.TOKENS,
        toy.LLM_SIZE,
    )


def test_families_beside_the_text_read_words_alone_and_look_at_their_own_picture():
    system = family_runs.build(family_runs.FAMILIES["flamingo"][1], PLAN, 0)
    first, second = (samples.draw_sample("caption", random.Random(seed)) for seed in (0, 1))
    layout, document = system.lay_out(first)
    special = system.model.tokenizer.special
    assert special.im_patch not in layout.ids and not document.images
    for layer in system.model.llm.layers:
        if isinstance(layer, flamingo.GatedLayer):
            layer.gates.data.fill_(1.0)
    system.forward([first, second], torch.Generator())
    both = system.model.llm.layers[0].picture
    system.set_pictures(second.pictures)
    torch.testing.assert_close(system.model.llm.layers[0].picture, both[1:])
    looked, watch = [], system.set_pictures
    system.set_pictures = lambda pictures: looked.append(pictures) or watch(pictures)
    assert len(system.replies([first, second])) == 2 and looked == [first.pictures, second.pictures]


# --------------------------------------------------------------------------------------------------
# Discrete tokens


def identity_codebook():
    """Codes of two numbers: (0, 0), (1, 0), (0, 2); nothing on the way in or out."""
    book = codebook.Codebook(channels=2, codes=3, dim=2)
    with torch.no_grad():
        book.codes.copy_(torch.tensor([[0.0, 0], [1, 0], [0, 2]]))
    return book


def test_the_gradient_passes_straight_through_the_codebook():
    book, vectors = identity_codebook(), torch.tensor([[0.9, 0.2], [0.2, 1.5]], requires_grad=True)
    quantized, loss = book.quantize(vectors)
    torch.testing.assert_close(quantized, torch.tensor([[1.0, 0], [0, 2]]))
    assert loss.item() == pytest.approx(1.25 * (0.1**2 + 0.2**2 + 0.2**2 + 0.5**2) / 4)
    weights = torch.tensor([[3.0, -1], [0.5, 7]])
    (gradient,) = torch.autograd.grad((quantized * weights).sum(), vectors, retain_graph=True)
    assert torch.equal(gradient, weights)  # as if the vectors themselves had been handed on
    (drawn,) = torch.autograd.grad(
        loss, book.codes
    )  # the codes are drawn to the vectors, each by its own
    torch.testing.assert_close(drawn, torch.tensor([[0.0, 0], [0.1, -0.2], [-0.2, 0.5]]) / 2)


def test_codes_stand_row_by_row_and_come_back():
    book, numbers = identity_codebook(), torch.tensor([[0, 1, 2, 2, 1, 0]])
    latents = book.decode_codes(numbers, height=2)
    assert (
        latents.shape == (1, 2, 2, 3)
        and latents[0, :, 0, 2].tolist() == [0, 2]
        and latents[0, :, 1, 1].tolist() == [1, 0]
    )
    assert torch.equal(book.encode_latents(latents + 0.1), numbers)


def test_codes_begin_far_from_one_another():
    cells = torch.tensor([[0.0], [0.1], [0.2], [5.0], [-3.0]])
    assert codebook.farthest_points(cells, 3).flatten().tolist() == [0.0, 5.0, -3.0]


@pytest.fixture(scope="module")
def words_and_codes(base):
    """The family without its training: codes of random numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(family.parts, "toy_before", lambda name: deepcopy(base))
        return family_runs.build(family_runs.FAMILIES["discrete"][1], PLAN, 0)


def test_pictures_are_words_of_the_sequence_and_only_the_reply_is_learned(words_and_codes):
    special, tokenizer = words_and_codes.model.tokenizer.special, words_and_codes.model.tokenizer
    first, second = list(range(1000, 1064)), list(range(2000, 2064))
    edit = samples.Sample(
        "edit", (RING, "the same but red"), RING, (RING, RING), RING.facts
    )  # any picture
    layout = words_and_codes.token_layout(edit, [first, second])
    words = tokenizer.encode("the same but red")
    assert layout.ids == [
        special.bos,
        special.im_start,
        *first,
        special.im_end,
        *words,
        special.im_start,
        *second,
        special.eos,
    ]
    assert [label for label in layout.labels if label != IGNORED] == [*second, special.eos]
    question = samples.Sample(
        "question", (RING, "how large?"), "large", (RING,), RING.facts, (("what color?", "green"),)
    )
    layout = words_and_codes.token_layout(question, [first])
    assert layout.ids == [
        special.bos,
        *tokenizer.encode("question:"),
        special.im_start,
        *first,
        special.im_end,
        *tokenizer.encode("how large? answer: large"),
        special.eos,
        *tokenizer.encode("question: what color? answer: green"),
        special.eos,
    ]
    assert [label for label in layout.labels if label != IGNORED] == tokenizer.encode("large") + [
        special.eos
    ] + tokenizer.encode("green") + [special.eos]


def test_codes_of_samples_keep_to_their_samples(words_and_codes):
    edit, paint, question = (
        samples.draw_sample(kind, random.Random(3)) for kind in ("edit", "paint", "question")
    )
    with_replies = words_and_codes.picture_tokens([edit, paint, question], replies=True)
    assert [len(codes) for codes in with_replies] == [2, 1, 1] and all(
        len(codes) == 64 for some in with_replies for codes in some
    )
    assert [
        len(codes)
        for codes in words_and_codes.picture_tokens([edit, paint, question], replies=False)
    ] == [1, 0, 1]
    alone = words_and_codes.codebook.encode_latents(
        words_and_codes.model.decoder.latents_of([paint.reply])
    )[0]
    assert with_replies[1] == [(words_and_codes.first_code + alone).tolist()]
    assert words_and_codes.picture_tokens([paint], replies=False) == [[]]


def test_what_is_written_does_not_depend_on_the_neighbours(words_and_codes):
    one, other = (
        samples.draw_sample("question", random.Random(1)),
        samples.draw_sample("caption", random.Random(2)),
    )
    assert words_and_codes.replies([other, one])[1] == words_and_codes.replies([one])[0]
    (picture,) = words_and_codes.replies([samples.draw_sample("paint", random.Random(1))])
    assert picture.size == (toy.IMAGE_SIZE, toy.IMAGE_SIZE)


# --------------------------------------------------------------------------------------------------
# Alignment and MetaQueries


@pytest.mark.parametrize("name", ["alignment-text", "alignment-image"])
def test_alignment_is_the_squared_distance_and_asks_no_painter(name):
    system = family_runs.build(family_runs.FAMILIES[name][1], PLAN, 0)
    model = system.model
    model.decoder.config = type(model.decoder.config)(drop_prob=0.0)
    batch = system.batch(0, 0, 0)
    losses = system(batch, torch.Generator().manual_seed(0))
    states = model.encode([Document(list(sample.given), targets=[]) for sample in batch])
    projector = model.decoder.projector if name == "alignment-text" else model.decoder.projector[0]
    error = (projector(states) - system.target_states(batch)).square().mean()
    torch.testing.assert_close(losses["regression"], error, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        losses["total"],
        alignment.REGRESSION_WEIGHT * error + toy.PAINTING_WEIGHT * losses["diffusion"],
        rtol=1e-4,
        atol=1e-4,
    )
    if name == "alignment-text":
        assert losses["diffusion"] == 0
    else:  # the decoder of image states learns from the true ones; nothing of it comes to the queries
        assert losses["diffusion"] > 0
        assert torch.autograd.grad(
            losses["diffusion"], model.dream_queries, retain_graph=True, allow_unused=True
        ) == (None,)
        (slope,) = torch.autograd.grad(losses["diffusion"], model.decoder.projector[1].weight)
        assert slope.abs().max() > 0


def test_what_a_teacher_does_not_say_is_the_same_to_it():
    say_all, say_less = (
        family_runs.build(family_runs.FAMILIES[name][1], PLAN, 0)
        for name in ("alignment-text", "alignment-short")
    )
    on_gray, on_black = (
        samples.story_sample(
            "edit", Story((RING, "the same", Scene(RING.objects, background)), given=(0,))
        )
        for background in ("gray", "black")
    )
    assert torch.equal(*say_less.target_states([on_gray, on_black])) and not torch.equal(
        *say_all.target_states([on_gray, on_black])
    )
    assert torch.equal(
        say_less.target_states([replace(on_gray, given=())]),
        say_all.target_states([replace(on_gray, given=())]),
    )  # nothing given is the empty caption


def test_what_queries_are_aligned_with():
    text, image = (
        family_runs.build(family_runs.FAMILIES[name][1], PLAN, 0)
        for name in ("alignment-text", "alignment-image")
    )
    batch = [samples.draw_sample("paint", random.Random(seed)) for seed in (0, 1)]
    assert text.target_states(batch).shape == (
        2,
        family.QUERIES,
        toy.CONDITION_SIZE,
    ) and image.target_states(batch).shape == (2, family.QUERIES, toy.VISION_SIZE)
    nothing = [batch[0], samples.Sample("nothing", (), batch[1].reply, (), ())]
    torch.testing.assert_close(text.target_states(nothing)[0], text.target_states(batch)[0])
    assert (
        not torch.allclose(text.target_states(nothing)[1], text.target_states(batch)[1])
        and image.target_states(nothing)[1].eq(0).all()
    )
    torch.testing.assert_close(
        image.target_states(batch).mean(dim=-1), torch.zeros(2, family.QUERIES), atol=1e-5, rtol=0
    )


def test_queries_see_one_another_only_where_they_shall():
    llm = tiny_llm()
    plain, embeddings = llm(noise(2, 7, 8)), noise(2, 7, 8)
    watchers = []
    for layer in llm.layers:
        layer.self_attn.attend = metaqueries.BidirectionalQueries(layer.self_attn.attend)
        watchers.append(layer.self_attn.attend)
    assert torch.equal(llm(embeddings), plain)  # without blocks nothing changes
    for watcher in watchers:
        watcher.blocks, watcher.queries = (
            [(0, 2), (1, 4)],
            3,
        )  # tokens 2 to 4 of row 0, 4 to 6 of row 1
    before = llm(embeddings)
    changed = embeddings.clone()
    changed[:, 4] += 1  # the last query of row 0, the first of row 1
    moved = (llm(changed) - before).abs().amax(dim=-1) > 1e-4
    assert moved.tolist() == [
        [False, False, True, True, True, True, True],
        [False, False, False, False, True, True, True],
    ]
    changed = embeddings.clone()
    changed[:, 6] += 1  # a word after the queries of row 0, the last query of row 1
    moved = (llm(changed) - before).abs().amax(dim=-1) > 1e-4
    assert moved.tolist() == [[False] * 6 + [True], [False] * 4 + [True] * 3]
    # The same with a cache: the words first, the queries and what follows then.
    cache = llms.Cache()
    for watcher in watchers:
        watcher.blocks = []
    llm(embeddings[:1, :2], cache=cache)
    for watcher in watchers:
        watcher.blocks = [(0, 0)]
    torch.testing.assert_close(
        llm(embeddings[:1, 2:], cache=cache), before[:1, 2:], rtol=1e-4, atol=1e-5
    )


def test_a_bidirectional_model_paints_from_a_prompt_as_from_a_batch_and_still_talks():
    system = family_runs.build(family_runs.FAMILIES["metaqueries-bidirectional"][1], PLAN, 0)
    model, prompts = system.model, ["a small red circle", "a large blue star on a white background"]
    together = model.encode(prompts)
    torch.testing.assert_close(together[1:], model.encode(prompts[1]), rtol=1e-4, atol=1e-4)
    causal = family_runs.build(family_runs.FAMILIES["metaqueries"][1], PLAN, 0).model.encode(
        prompts
    )
    assert (causal - together).abs().max() > 1e-2
    assert isinstance(model.chat("what color is the thing?", max_new_tokens=2), str)
    document = Document([prompts[1], pictures([RING], toy.IMAGE_SIZE)[0]], targets=[0])
    layout = lay_out(
        document,
        model.tokenizer,
        model.queries,
        model.vision.patches,
        learn_text=False,
        read_last=False,
    )
    batch, hidden = model.read([layout], [document])
    torch.testing.assert_close(
        hidden[:, batch.queries[0][1] :][:, : model.queries], together[1:], rtol=1e-4, atol=1e-4
    )  # as in training


# --------------------------------------------------------------------------------------------------
# Plug-ins


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
            f"image the same but blue answer: {call} question: a large green ring on a gray background",
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
        "dream_of_clip",
        lambda model, captions: drawn.extend(captions) or ["picture"] * len(captions),
    )
    paint = [samples.draw_sample("paint", random.Random(seed)) for seed in range(4)]
    assert system.replies(paint) == ["picture", None, None, None] and drawn == [
        "a small red star",
        "",
        "",
        "",
    ]


# --------------------------------------------------------------------------------------------------
# All of them


@pytest.mark.parametrize("name", family_runs.FAMILIES)
def test_each_family_learns_in_a_few_steps_and_nothing_that_is_frozen_moves(name):
    system = family_runs.build(family_runs.FAMILIES[name][1], PLAN, seed=1)
    assert set(system.kinds) <= set(samples.SAMPLE_KINDS) and system.name == name
    for phase in system.phases:
        trained = {
            name: parameter
            for name, parameter in phase.named_parameters()
            if parameter.requires_grad
        }
        assert trained and not any(
            part in key for key in trained for part in ("tower", "decoder.vae", "decoder.unet")
        )
        frozen = {
            name: value.clone() for name, value in phase.state_dict().items() if name not in trained
        }
        batch, losses = phase.batch(0, 0, 0), []
        optimizer = torch.optim.AdamW(trained.values(), lr=5e-3, weight_decay=0.1)
        for _ in range(8):
            loss = phase(batch, torch.Generator().manual_seed(0))["total"]
            losses.append(loss.item())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        assert min(losses[-3:]) < 0.9 * losses[0], losses
        assert all(
            torch.equal(value, frozen[key])
            for key, value in phase.state_dict().items()
            if key in frozen
        )


def test_budgets_are_alike_within_each_group():
    trained = {
        name: family.trained_parameter_count(
            family_runs.build(family_runs.FAMILIES[name][1], PLAN, 0).phases
        )
        for name in family_runs.FAMILIES
    }
    with_llm = (
        "captions",
        "instructions",
        "referring",
        "discrete",
        "alignment-text",
        "alignment-short",
        "alignment-image",
        "dreamllm",
        "dreamllm-creation",
    )
    without = ("lora", "flamingo", "qformer", "metaqueries", "metaqueries-bidirectional")
    for group in (with_llm, without):
        sizes = [trained[name] for name in group]
        assert max(sizes) < 1.1 * min(sizes), {name: trained[name] for name in group}
    assert (
        trained["projector"]
        < trained["adapter"]
        < trained["lora"]
        < trained["captions"]
        < trained["plugin"]
    )


def test_the_same_seed_gives_the_same_family_and_the_same_samples():
    state = torch.get_rng_state()
    one, same, other = (
        family_runs.build(family_runs.FAMILIES["dreamllm"][1], PLAN, seed) for seed in (3, 3, 4)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.model.dream_queries, same.model.dream_queries) and not torch.equal(
        one.model.dream_queries, other.model.dream_queries
    )
    assert torch.equal(one.model.vision.projector.weight, same.model.vision.projector.weight)
    aligned = family_runs.build(family_runs.FAMILIES["alignment-text"][1], PLAN, 3)
    assert [sample.given[0] for sample in one.batch(0, 0, 0)] == [
        sample.given[0] for sample in aligned.batch(0, 0, 0)
    ]
    kinds = [one.batch(0, step, 0)[0].kind for step in range(6)]
    assert (
        kinds == [*one.kinds, one.kinds[0]]
        and [
            sample.kind
            for sample in family_runs.build(family_runs.FAMILIES["captions"][1], PLAN, 0).batch(
                0, 1, 0
            )
        ]
        == ["caption"] * 3
    )
