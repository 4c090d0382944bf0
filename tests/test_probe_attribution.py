"""Attributions equal ablation by hand, and are complete where the method promises it."""

import pytest
import torch
from models_shared import tiny_official, untrained_toy
from PIL import Image
from torch.testing import assert_close

import minidream
from minidream import probe
from minidream.documents import collate, turn_layout
from minidream.weights import toy

PHOTO = Image.effect_noise((40, 36), 60).convert("RGB")
PROMPT = minidream.Document([PHOTO, "the same but green"])


@pytest.fixture(scope="module", params=["toy", "official"])
def model(request):
    if request.param == "toy":
        return untrained_toy()
    return tiny_official()


def words_of(model) -> list[int]:
    return [
        place
        for place, token in enumerate(model.prompt_layout(PROMPT).ids)
        if token not in model.tokenizer.special.ids
    ]


def test_feature_ablation_is_taking_away_by_hand(model):
    target = probe.DenoisingTarget(model, PHOTO, timesteps=(200, 800))
    found = probe.feature_ablation(model, PROMPT, target, batch=7)
    layout, neutral = model.prompt_layout(PROMPT), model.tokenizer.encode("thing")
    assert len(found.values) == len(found.inputs) == len(layout.ids)
    whole = target(model.encode([PROMPT])).item()
    assert found.whole == pytest.approx(whole, abs=1e-5)
    place = words_of(model)[2]
    embeddings = model.embed(collate([layout], model.tokenizer.special.pad), PROMPT.images)
    embeddings[0, place] = model.llm.embed_tokens.weight[neutral].mean(dim=0)
    first = layout.queries[-1][1]
    without = target(model.llm(embeddings)[:, first : first + model.queries]).item()
    assert found.values[place].item() == pytest.approx(whole - without, abs=1e-5)
    rest = (
        set(range(len(layout.ids)))
        - set(words_of(model))
        - {layout.patches[0][1] + patch for patch in range(model.vision.patches)}
    )
    assert not found.values[sorted(rest)].any() and found.values.abs().max() > 0


def test_integrated_gradients_are_complete(model):
    """By the fundamental theorem of calculus, whatever the target; here one with curvature."""
    direction = torch.randn(
        model.dream_queries.shape[-1], generator=torch.Generator().manual_seed(0)
    )
    found = probe.integrated_gradients(
        model, PROMPT, lambda states: (states @ direction / 50).mean(dim=1).tanh(), steps=256
    )
    assert abs(found.whole - found.nothing) > 1e-4
    assert abs(found.delta) < 0.05 * found.values.abs().sum()
    coarse = probe.integrated_gradients(
        model, PROMPT, lambda states: (states @ direction / 50).mean(dim=1).tanh(), steps=2
    )
    assert abs(coarse.delta) > abs(found.delta)


def test_the_verdict_of_the_judge_is_that_of_the_painted_picture():
    model, judge = minidream.load("toy", device="cpu"), toy.pretrained_judge()
    prompt = "a large red circle"
    options = dict(seed=4, num_inference_steps=3, guidance_scale=2.0)
    target = probe.VerdictTarget(model, judge, "first colour", "blue", **options)
    picture = model.dream(prompt, output_type="pt", **options)
    wanted = judge(picture[None])["first colour"].log_softmax(dim=-1)[0, 5]
    assert_close(target(model.encode(prompt))[0], wanted, atol=1e-3, rtol=1e-3)
    found = probe.integrated_gradients(
        model, prompt, target, steps=2
    )  # gradients flow through all of sampling
    assert found.values.isfinite().all() and found.values.abs().max() > 0
    with pytest.raises(ValueError, match="'first taste' is none of background, first size"):
        probe.VerdictTarget(model, judge, "first taste", "red")
    with pytest.raises(ValueError, match="'round' is none of circle, square"):
        probe.VerdictTarget(model, judge, "first shape", "round")


def test_what_answers_depend_on_is_padding_one_word_at_a_time(model):
    turn = [PHOTO, "what color is the circle?"]
    found = probe.answer_attribution(model, turn, "green")
    layout, images = turn_layout(model, turn)
    answer = model.tokenizer.encode("green")

    def log_probability(ids):
        batch = collate([layout], model.tokenizer.special.pad)
        batch.ids[0] = torch.tensor(ids)
        embeddings = torch.cat(
            [model.embed(batch, images), model.llm.embed_tokens(torch.tensor([answer]))], dim=1
        )
        logits = model.llm.logits(model.llm(embeddings))[0, len(ids) - 1 : -1].log_softmax(dim=-1)
        return sum(row[token].item() for row, token in zip(logits, answer))

    place = max(
        place for place, token in enumerate(layout.ids) if token not in model.tokenizer.special.ids
    )
    without = [
        model.tokenizer.special.pad if number == place else token
        for number, token in enumerate(layout.ids)
    ]
    assert found.whole == pytest.approx(log_probability(layout.ids), abs=1e-4)
    assert found.values[place].item() == pytest.approx(
        found.whole - log_probability(without), abs=1e-4
    )
    assert not found.values[
        [place for place, label in enumerate(found.inputs) if isinstance(label, tuple)]
    ].any()


def test_a_prompt_without_words_is_refused():
    model = untrained_toy()
    with pytest.raises(ValueError, match="no word and no patch"):
        probe.feature_ablation(model, "", lambda states: states.sum(dim=(1, 2)))
