"""All families: budgets, seeds and vocabulary; each of them learns, and frozen parts stay."""

import pytest
import torch
from families_shared import build, pretrained

from minidream.families import family, image_decoder, referring, samples
from minidream.studies import family_runs
from minidream.tokenizers import ToyTokenizer
from minidream.world.language import VOCABULARY


def test_new_words_change_nothing_for_the_old_ones():
    model = family.with_new_words(pretrained(), ("where", "7"))
    tokenizer = model.tokenizer
    assert len(tokenizer) == len(pretrained().tokenizer) + 2 and tokenizer.encode(
        "a 7 ring where?"
    )[::2] == pretrained().tokenizer.encode("a ring?")
    ids = torch.tensor([pretrained().tokenizer.encode("a large red circle")])
    old, new = (
        each.llm.logits(each.llm(each.llm.embed_tokens(ids))) for each in (pretrained(), model)
    )
    torch.testing.assert_close(new[..., :-2], old)
    assert model.llm.embed_tokens.weight[-2:].std() > 0.5  # as wide as old words
    assert (
        ToyTokenizer([*VOCABULARY, *referring.WORDS]).decode([len(pretrained().tokenizer) + 2 + 31])
        == "31"
    )


@pytest.mark.parametrize("name", family_runs.FAMILIES)
def test_each_family_learns_in_a_few_steps_and_frozen_parts_stay(name):
    system = build(name, 1)
    assert set(system.kinds) <= set(samples.SAMPLE_KINDS) and system.name == name
    for phase in system.phases:
        trained = {
            name: parameter
            for name, parameter in phase.named_parameters()
            if parameter.requires_grad
        }
        kept, rate = ["tower", "decoder.vae", "decoder.unet"], 5e-3
        if isinstance(phase, image_decoder.ImageDecoder):
            kept, rate = kept[:2], 1e-3  # an untrained U-Net does not learn at five times its rate
        if name == "adapter":
            rate = 2e-2  # its gates begin at zero
        assert trained and not any(part in key for key in trained for part in kept)
        frozen = {
            name: value.clone() for name, value in phase.state_dict().items() if name not in trained
        }
        batch, losses = phase.batch(0, 0, 0), []
        optimizer = torch.optim.AdamW(trained.values(), lr=rate, weight_decay=0.1)
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
        name: family.trained_parameter_count(build(name).phases) for name in family_runs.FAMILIES
    }
    with_llm = (
        "captions",
        "instructions",
        "referring",
        "discrete",
        "alignment-text",
        "alignment-short",
        "dreamllm",
        "dreamllm-creation",
    )
    without = ("lora", "flamingo", "qformer", "metaqueries", "metaqueries-bidirectional")
    for group in (with_llm, without):
        sizes = [trained[name] for name in group]
        assert max(sizes) < 1.1 * min(sizes), {name: trained[name] for name in group}
    # Those with a painter of their own train as much as these, and the U-Net.
    painters = {
        name: family.trained_parameter_count([build(name).phases[index]])
        for name, index in (("alignment-image", 0), ("emu", 1), ("emu2", 0))
    }
    assert len(set(painters.values())) == 1
    rest = [trained["dreamllm"], *(trained[name] - painters[name] for name in painters)]
    assert max(rest) < 1.1 * min(rest)
    assert (
        trained["projector"]
        < trained["adapter"]
        < trained["lora"]
        < trained["captions"]
        < trained["plugin"]
    )


def test_the_same_seed_gives_the_same_family_and_the_same_samples():
    state = torch.get_rng_state()
    one, same, other = (build("dreamllm", seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.model.dream_queries, same.model.dream_queries) and not torch.equal(
        one.model.dream_queries, other.model.dream_queries
    )
    assert torch.equal(one.model.vision.projector.weight, same.model.vision.projector.weight)
    aligned = build("alignment-text", 3)
    assert [sample.given[0] for sample in one.batch(0, 0, 0)] == [
        sample.given[0] for sample in aligned.batch(0, 0, 0)
    ]
    kinds = [one.batch(0, step, 0)[0].kind for step in range(6)]
    assert kinds[1:5] == list(one.training_kinds[1:]) and {kinds[0], kinds[5]} <= {"paint", "pair"}
    assert [sample.kind for sample in build("captions").batch(0, 1, 0)] == ["caption"] * 3
    assert one.kinds == (*one.training_kinds, "pair") and "pair" not in build("captions").kinds


def test_a_plan_has_at_least_one_of_everything():
    with pytest.raises(ValueError, match="at least 1, not 0, 32 and 48"):
        family.FamilyPlan(steps=0)
    recipe = family.FamilyPlan(steps=60, batch=5).recipe(1e-3, share=1 / 6)
    assert (recipe.steps, recipe.batch, recipe.warmup) == (10, 5, 2)
