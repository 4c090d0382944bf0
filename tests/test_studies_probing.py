"""The probing study: verdicts and pairs by hand, patches and cuts exactly, shares by hand."""

import json
import math
import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from models_shared import untrained_toy
from torch.testing import assert_close

from minidream import probe
from minidream.probe.map_scores import points_at
from minidream.studies import (
    probing,
    probing_edits,
    probing_hops,
    probing_knockout,
    probing_lab,
    probing_pointing,
    probing_readable,
    probing_roles,
    probing_shares,
    probing_tracing,
    probing_tracing_shares,
)
from minidream.studies.intervals import clustered_interval, newcombe, wilson
from minidream.studies.probing_decoder import keys_of, latents_of_mixture
from minidream.studies.probing_lab import Lab, Painted, ProbingPlan
from minidream.studies.probing_map_shares import (
    edited,
    hits,
    painted_as_thought,
    pointing_differences,
    profile_similarity,
    readable_curves,
    thinking_helps,
    told_before,
    told_by,
    transfer_share,
    transferred,
)
from minidream.studies.probing_pairs import (
    WORDS,
    counterpart,
    mentions,
    phrasing_of,
    sample_pair,
    scene_of,
    slot_of,
)
from minidream.studies.probing_sides import told_apart
from minidream.studies.probing_table import TABLES, tables
from minidream.studies.probing_verdicts import Verdicts, encode_patched, mask_of, verdict
from minidream.weights import toy
from minidream.world.judge import Reading
from minidream.world.language import describe, parse_caption
from minidream.world.scenes import Scene, SceneObject, is_held_out, sample_scene

TINY = ProbingPlan(prompts=4, steps=2, batch=3)
CLOSE = dict(atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def lab():
    model = untrained_toy()
    return Lab(model, TINY, other=model.dream_queries.flip(1))


@pytest.fixture(scope="module")
def pairs():
    rng = random.Random(3)
    return [sample_pair(rng, *word) for word in WORDS]


# --------------------------------------------------------------------------------------------------
# Prompts


@pytest.mark.parametrize("kind, mention", WORDS)
def test_pairs_differ_in_one_word_and_in_what_it_says_and_are_not_held_out(kind, mention):
    rng = random.Random(0)
    for _ in range(40):
        pair = sample_pair(rng, kind, mention)
        words = list(zip(pair.own.words, pair.donor.words, strict=True))
        assert [place for place, (one, two) in enumerate(words) if one != two] == [pair.word]
        assert pair.own.roles == pair.donor.roles and pair.own.roles[pair.word][0] == kind
        (background, relation, own), (_, other_relation, donor) = pair.facts
        assert background is None and not any(is_held_out(scene_of(facts)) for facts in pair.facts)
        if kind == "relation":
            assert relation == other_relation and own == donor[::-1] and own != donor
            continue
        slot = slot_of(pair.own, mention)
        place = ("size", "colour", "shape").index(kind)
        differ = [(s, p) for s in (0, 1) for p in range(3) if own[s][p] != donor[s][p]]
        assert differ == [(slot, place)] and relation == other_relation
        # The counterpart says the same of the object that is mentioned as the other one.
        role = pair.own.roles[counterpart(pair)]
        assert role == (kind, mentions(pair.own)[1 - mention])


def test_mentions_slots_and_phrasings_by_hand():
    scene = Scene((SceneObject("star", "red", "small", 0.2), SceneObject("ring", "blue", "large")))
    found = {}
    for seed in range(60):
        phrase = describe(scene, random.Random(seed), background=False)
        found[phrase.text.removeprefix("there is ").removeprefix("a picture of ")] = phrase
    between = found["a small red star left of a large blue ring"]
    assert (phrasing_of(between), slot_of(between, 0), mentions(between)) == ("between", 0, [0, 1])
    after = found["a large blue ring with a small red star to its left"]
    assert (phrasing_of(after), slot_of(after, 0), mentions(after)) == ("after", 1, [1, 0])
    before = next(phrase for text, phrase in found.items() if " is a " in text)
    assert phrasing_of(before) == "before"


def facts(relation, *looks):
    return "white", relation, tuple(tuple(look.split()) for look in looks)


def test_verdicts_by_hand():
    own = None, *facts("left of", "small red star", "large blue ring")[1:]
    donor = None, *facts("left of", "small pink star", "large blue ring")[1:]
    read = {
        "O": facts("left of", "small red star", "large blue ring"),
        "D": facts("left of", "small pink star", "large blue ring"),
        "o": facts("left of", "large red star", "large blue ring"),
        "d": facts("above", "small pink star", "large blue ring"),
        "s": facts("left of", "large green cross", "small red star"),  # where the other one was
        "x": facts("left of", "small green star", "large blue ring"),
    }
    for letter, found in read.items():
        assert verdict(Reading(found), own, donor) == letter
    relation = None, *facts("left of", "large blue ring", "small red star")[1:]
    assert verdict(Reading(facts("left of", *["small green star"] * 2)), own, relation) == "x"
    assert verdict(Reading(None), own, donor) == "x"
    assert verdict(Reading(("white", None, (("small", "red", "star"),))), own, donor) == "x"


# --------------------------------------------------------------------------------------------------
# Patches


@pytest.mark.parametrize("at", ["llm.embed", "llm.2.resid_post", "llm.3.z"])
def test_patching_everything_gives_the_donor_and_nothing_the_prompt(lab, pairs, at):
    model = lab.model
    own, donor = ([getattr(pair, name).text for pair in pairs] for name in ("own", "donor"))
    cache = probe.run_with_cache(model, donor, [at])[at]
    lengths = [len(probe.positions(model, text).inputs) for text in own]
    assert len(set(lengths)) > 1  # some are padded
    every = mask_of([list(range(length)) for length in lengths], lengths)
    nothing = mask_of([[] for _ in lengths], lengths)
    before, wanted = model.encode(own), model.encode(donor)
    assert_close(encode_patched(model, own, cache, at, nothing), before, **CLOSE)
    whole = encode_patched(model, own, cache, at, every)
    if at.endswith("z"):  # what heads gather is not all that there is
        assert (whole - before).abs().max() > 1e-3
        heads = encode_patched(model, own, cache, at, every, list(range(cache.shape[1])))
        assert_close(heads, whole, **CLOSE)
        return
    assert_close(whole, wanted, **CLOSE)
    assert (before - wanted).abs().max() > 1e-3


def test_patches_in_a_padded_batch_are_those_of_single_prompts(lab, pairs):
    model, at = lab.model, "llm.1.resid_post"
    own, donor = ([getattr(pair, name).text for pair in pairs] for name in ("own", "donor"))
    lengths = [len(probe.positions(model, text).inputs) for text in own]
    rng = random.Random(0)
    others = [probing_tracing.another_word(pair, rng) for pair in pairs]
    rows = [
        probing_tracing.rows_of(*each, model.queries)["same phrase"]
        for each in zip(pairs, others, lengths)
    ]
    cache = probe.run_with_cache(model, donor, [at])[at]
    found = encode_patched(model, own, cache, at, mask_of(rows, lengths))
    for index, row in enumerate(rows):
        values = probe.run_with_cache(model, donor[index], at, row)[at] if row else None
        if not row:
            continue
        with probe.patch(model, row, values, at=at):
            assert_close(found[[index]], model.encode(own[index]), **CLOSE)


def test_rows_are_all_positions_from_the_word_on(lab, pairs):
    for pair in pairs:
        length = len(probe.positions(lab.model, pair.own.text).inputs)
        other = probing_tracing.another_word(pair, random.Random(0))
        rows = probing_tracing.rows_of(pair, other, length, lab.model.queries)
        parts = [rows[name] for name in ("word", "same phrase", "object", "rest")]
        count = len(pair.own.words)
        assert sorted(sum(parts, [])) == list(range(pair.word + 1, count + 1))
        assert rows["words"] == list(range(1, count + 1))
        assert rows["words"] + rows["dream start"] + rows["queries"] == list(range(1, length))
        assert rows["other word"] == ([] if other is None else [other + 1])
        assert (other is None) == (pair.word == count - 1)


def test_heads_together_are_patches_of_each_head(lab, pairs):
    model, some, seeds = lab.model, pairs[:3], [5, 6, 7]
    verdicts = Verdicts(lab, some, seeds)
    own, donor = verdicts.texts.values()
    layers, heads = len(model.llm.layers), 6
    every = [(layer, head) for layer in range(layers) for head in range(heads)]
    sets = [[(2, 3)], every]
    found = probing_tracing.heads_together(lab, some, seeds, sets)
    cache = probe.run_with_cache(model, donor, "llm.2.z")
    lengths = [len(probe.positions(model, text).inputs) for text in own]
    where = mask_of([range(n - model.queries, n) for n in lengths], lengths)
    states = encode_patched(model, own, cache["llm.2.z"], "llm.2.z", where, [3])
    assert [each[0] for each in found] == lab.losses(verdicts.donor_latents, states, seeds)
    # All heads together bring everything: queries have nothing else from the words.
    assert [each[1] for each in found] == pytest.approx(
        lab.losses(verdicts.donor_latents, verdicts.donor, seeds), abs=1
    )


def test_the_strongest_heads_are_chosen_on_even_prompts():
    losses = [[[9, 1], [5, 9]], [[0, 0], [0, 0]], [[9, 2], [3, 9]]]
    sets = probing_tracing.sets_of_heads({"heads": {"queries": losses}}, random.Random(0))
    assert sets["strongest"] == [[(0, 1)], *[[(0, 1), (1, 0)]] * 4]
    for strongest, others in zip(*sets.values()):
        assert len(strongest) == len(others) and not set(strongest) & set(others)


def test_what_is_known_is_not_painted_again(lab, pairs, monkeypatch):
    verdicts = Verdicts(lab, pairs[:3], [5, 6, 7])
    letters = verdicts.own_letters, verdicts.donor_letters
    states = torch.stack([verdicts.own[0], verdicts.donor[1], verdicts.own[2]])
    monkeypatch.setattr(lab, "latents", None)
    assert verdicts.letters(states) == [letters[0][0], letters[1][1], letters[0][2]]
    with pytest.raises(TypeError):
        verdicts.letters(states + 0.1)


# --------------------------------------------------------------------------------------------------
# Cuts


def test_cuts_are_those_of_probe_and_no_cut_changes_nothing(lab, pairs):
    model, texts = lab.model, [pair.own.text for pair in pairs]
    edges, layers = probing_knockout.edges_of(model, pairs), [1, 2]
    assert_close(
        probing_knockout.encode_cut(
            model, texts, torch.zeros_like(edges["word to queries"]), layers
        ),
        model.encode(texts),
        **CLOSE,
    )
    for name in ("word to queries", "counterpart to queries", "rest to queries"):
        found = probing_knockout.encode_cut(model, texts, edges[name], layers)
        for index, pair in enumerate(pairs):
            where = probe.positions(model, texts[index])
            places = probing_knockout.places_of(pair, len(where.inputs), model.queries)
            sources = places[probing_knockout.EDGES[name][1]]
            with probe.cut(model, where.queries, sources, at=[f"llm.{each}" for each in layers]):
                assert_close(found[[index]], model.encode(texts[index]), **CLOSE)
        assert (found - model.encode(texts)).abs().max() > 1e-4


def test_nothing_of_a_word_is_left_once_all_that_could_read_it_is_cut(lab, pairs):
    model, every = lab.model, range(len(lab.model.llm.layers))
    own, donor = ([getattr(pair, name).text for pair in pairs] for name in ("own", "donor"))
    edges = probing_knockout.edges_of(model, pairs)
    both = edges["word to queries"] | edges["word to words"]
    found = [probing_knockout.encode_cut(model, texts, both, every) for texts in (own, donor)]
    assert_close(*found, **CLOSE)
    # One of the two ways is enough for a difference.
    for name in ("word to queries", "word to words"):
        one, other = (
            probing_knockout.encode_cut(model, texts, edges[name], every) for texts in (own, donor)
        )
        assert (one - other).abs().amax(dim=(1, 2)).min() > 1e-4


def test_queries_that_are_cut_off_from_one_another_know_nothing_of_one_another(lab, pairs):
    model, every = lab.model, range(len(lab.model.llm.layers))
    texts, edges = [pair.own.text for pair in pairs], probing_knockout.edges_of(model, pairs)
    changed = lab.other.clone()
    changed[:, 1:] = model.dream_queries[:, 1:]  # only the first query is another one
    control = probing_pointing.with_queries(model, changed)
    one, other = (
        probing_knockout.encode_cut(each, texts, edges["queries to queries"], every)
        for each in (model, control)
    )
    assert_close(one[:, 1:], other[:, 1:], **CLOSE)
    assert (one[:, 0] - other[:, 0]).abs().max() > 1e-3
    assert (model.encode(texts) - control.encode(texts))[:, 1:].abs().max() > 1e-3


# --------------------------------------------------------------------------------------------------
# The U-Net


def test_layers_and_steps_get_the_states_of_the_donor(lab, pairs):
    verdicts = Verdicts(lab, pairs[:2], [5, 6])
    values = keys_of(lab.model, verdicts.donor)

    def mixed(values, first):
        return latents_of_mixture(lab, verdicts.own, values, [5, 6], first)

    assert_close(mixed(values, 0), verdicts.donor_latents, atol=1e-4, rtol=0)
    assert_close(mixed(values, TINY.steps), verdicts.own_latents, atol=1e-4, rtol=0)
    one_layer = {name: each for name, each in values.items() if name.startswith("unet.2.")}
    assert len(one_layer) == 2
    between = mixed(one_layer, 0)
    for latents in (verdicts.own_latents, verdicts.donor_latents, mixed(values, 1)):
        assert (between - latents).abs().max() > 1e-5


# --------------------------------------------------------------------------------------------------
# Roles and transfers


def hand_painted(favourites):
    """Pictures whose objects' cells look at given queries; None for one that is not right."""
    masks = torch.zeros(2, 2, 2)
    masks[0, 0], masks[1, 1] = 1, 1  # the upper and the lower row
    cells = torch.zeros(len(favourites), 1, 5, 2, 2)
    for index, pair in enumerate(favourites):
        for row, query in enumerate(pair or ()):
            cells[index, 0, query, row] = 1
    rng = random.Random(0)
    phrases = [describe(sample_scene(rng, count=2), rng, background=False) for _ in favourites]
    found = [None if pair is None else masks for pair in favourites]
    states = torch.zeros(len(favourites), 5, 3)
    return Painted(phrases, states, [*range(len(favourites))], found, cells)


def test_rules_and_rankings_by_hand():
    done = hand_painted([(0, 1), (3, 4), (0, 2), None, (2, 1)])
    assert done.right == [0, 1, 2, 4]
    assert [done.another_right(index) for index in (0, 1, 2, 4)] == [2, 2, 4, 0]
    assert done.looked_at(0, 1).tolist() == [0, 1, 0, 0, 0]
    rule = probing_roles.rule_of(done, range(0, 5, 2))
    assert [each[0] for each in rule] == [0, 1]
    assert probing_roles.rule_of(done, [1])[0][0] == 3
    found = probing_roles.rankings_of(done, 1, 0, rule, random.Random(0))
    firsts = {way: queries[0] for way, queries in found.items()}
    assert firsts["map"] == 3 and firsts["other role"] == 4 and firsts["rule"] == 0
    assert firsts["another picture's map"] == 0
    assert all(sorted(queries) == [0, 1, 2, 3, 4] for queries in found.values())
    assert probing_roles.chosen(found, "map", 1) == [3]
    for number in (1, 4):
        drawn = probing_roles.chosen({**found, "random": [3, 0, 1, 2, 4]}, "random", number)
        assert not set(drawn) & set(found["map"][:number])
    done.states[1, 2] = 1  # prompts 0 and 1 are each other's donors
    again = probing_roles.rankings_of(done, 0, 0, rule, random.Random(0))
    assert again["difference"][0] == 2 and probing_roles.partner(5) == 4
    assert probing_roles.half_of(6, 0) == [0, 1, 4, 5]


def test_letters_of_transfers_by_hand():
    own, donor = (
        describe(Scene((SceneObject(*first, x=0.2), SceneObject(*second))), background=False)
        for first, second in (
            (("star", "red", "small"), ("ring", "blue", "large")),
            (("cross", "pink", "large"), ("square", "cyan", "small")),
        )
    )
    for letter, looks in {
        "T": ("large pink cross", "large blue ring"),
        "t": ("small pink star", "large blue ring"),
        "S": ("small cyan square", "large blue ring"),
        "N": ("small red star", "large blue ring"),
        "W": ("small red star", "small cyan square"),
        "x": ("small green star", "large blue ring"),
    }.items():
        assert probing_roles.letter_of(Reading(facts("left of", *looks)), own, donor, 0) == letter
        assert probing_roles.letter_of(Reading(facts("above", *looks)), own, donor, 0) == "x"
    second = Reading(facts("left of", "small red star", "small cyan square"))
    assert probing_roles.letter_of(second, own, donor, 1) == "T"
    assert probing_roles.letter_of(Reading(None), own, donor, 1) == "x"


# --------------------------------------------------------------------------------------------------
# Maps


def test_first_hops_are_attention_and_what_it_adds(lab, pairs):
    model, texts = lab.model, [pair.own.text for pair in pairs[:3]]
    names = probing_hops.names_of_hops(len(model.llm.layers), 6)
    for text, hop in zip(texts, probing_hops.first_hops(model, texts)):
        assert len(hop) == len(names)
        assert_close(hop.sum(dim=-1), torch.ones(hop.shape[:2]), atol=1e-4, rtol=0)
        trace = probe.dream_attention(model, text)
        assert_close(hop[0], trace.mean(), **CLOSE)
        assert_close(hop[names.index("layer 2")], trace.mean(2), **CLOSE)
        assert_close(hop[names.index("layer 2 head 5")], trace.mean(2, 5), **CLOSE)


def test_contributions_by_hand():
    # Two heads of width 1 that share their values; the matrix adds both heads on two axes.
    weights = torch.tensor([[[[0.5, 0.5, 0.0]], [[0.0, 0.5, 0.5]]]])
    value = torch.tensor([[[[3.0], [1.0], [-4.0]]]])
    out = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    # Added: (1.5, 0), (0.5, 0.5), (0, -2); their sum is (2, -1.5).
    norms, along = probing_hops.contributions(weights, value, out)
    wanted = torch.tensor([1.5, math.hypot(0.5, 0.5), 2.0])
    assert_close(norms[0, 0], wanted / wanted.sum())
    wanted = torch.tensor([3.0, 0.25, 3.0])
    assert_close(along[0, 0], wanted / wanted.sum())


def test_hits_are_those_of_the_pointing_game():
    generator = torch.Generator().manual_seed(0)
    done = hand_painted([(0, 1)])
    done.masks[0][:, :, 0] = 0  # half of the cells belong to no object
    hops = torch.rand(4, 5, 6, generator=generator)
    cells = torch.rand(3, 5, 2, 2, generator=generator)
    found = probing_pointing.hits_of(done, 0, hops, cells)
    for way, layer, word in torch.cartesian_prod(*map(torch.arange, found.shape)).tolist():
        map_ = torch.einsum("q,qhw->hw", hops[way, :, word], cells[layer])
        mention, _ = probing_pointing.WORDS[word]
        assert found[way, layer, word] == (points_at(map_, done.masks[0]) == mention)
    assert probing_pointing.owned(done.masks[0]) == [250, 250]


def test_the_best_map_is_chosen_on_one_half():
    hits_by_index = {index: torch.zeros(3, 2, 6, dtype=torch.bool) for index in range(4)}
    colour = [1, 4]  # the words of that kind
    hits_by_index[0][2, 1, colour] = True
    hits_by_index[1][1, 0, colour] = True
    first, second = (
        probing_pointing.best_of(hits_by_index, half, [0, 1, 2], [0, 1]) for half in (0, 1)
    )
    assert first["colour"] == (2, 1) and second["colour"] == (1, 0) and first["size"] == (0, 0)
    assert probing_pointing.best_of(hits_by_index, 0, [1, 2], [0])["colour"] == (1, 0)
    assert probing_pointing.scored(hits_by_index[1], second) == [False, True, False] * 2


# --------------------------------------------------------------------------------------------------
# Probes


def test_states_that_know_which_colours_occur_but_not_whose_they_are():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randint(8, (2, 600), generator=generator)
    order = torch.randint(2, (600,), generator=generator)
    absent = torch.tensor(
        [next(c for c in range(8) if c not in pair) for pair in zip(first, second)]
    )
    labels = {"first": first, "second": second, "absent": absent, "order": order, "axis": order}
    labels["either"] = torch.where(torch.arange(600) % 2 == 0, first, second)
    labels["left"] = torch.where(order == 1, first, second)
    labels["right"] = torch.where(order == 1, second, first)
    one_hot = torch.eye(8)
    noise = 0.05 * torch.randn(2, 600, 3, 9, generator=generator)
    states = noise.clone()
    states[..., :8] += (one_hot[first] + one_hot[second])[None, :, None]
    states[1, ..., :8] += one_hot[first][:, None]  # the second layer also knows which is first
    train = 400
    taught = {name: each[:train] for name, each in labels.items()}
    right = probing_readable.answers(states, taught, labels)
    two = first[train:] != second[train:]
    share = {
        name: each[..., train:][..., two].float().mean(dim=(1, 2)) for name, each in right.items()
    }
    assert share["present"].min() > 0.95
    assert 0.4 < share["first or second"][0] < 0.6 and share["first or second"][1] > 0.9
    assert share["left or right"].max() < 0.62 and share["first"][1] > 0.9
    assert probing_readable.chance_of("left or right", labels, train) == 0.5
    most = max(labels["first"][train:].tolist().count(colour) for colour in range(8))
    assert probing_readable.chance_of("first", labels, train) == round(most / 200, 4)
    shuffled = {
        name: each[torch.randperm(train, generator=generator)] for name, each in taught.items()
    }
    control = probing_readable.answers(states, shuffled, labels)["first"][..., train:]
    assert control.float().mean() < 0.3
    found = probing_readable.summary(right["left"], first == second, train, 500)
    assert [count is None for count in found["counts"][0]] == (first == second)[500:].tolist()
    assert [each == "-" for each in found["best"][0]] == (first == second)[500:].tolist()


# --------------------------------------------------------------------------------------------------
# Edits


def scenes(change):
    """A scene, and what a change makes of its first object."""
    before = Scene((SceneObject("star", "red", "small", 0.2), SceneObject("ring", "blue", "large")))
    first, second = before.objects
    return before, replace(before, objects=(replace(first, **change), second))


def test_letters_of_edits_by_hand():
    before, after = scenes({"colour": "pink"})
    for letter, looks in {
        "R": ("small pink star", "large blue ring"),
        "N": ("small red star", "large blue ring"),
        "W": ("small red star", "large pink ring"),
        "B": ("small pink star", "large pink ring"),
        "e": ("large pink star", "large blue ring"),
        "n": ("small red cross", "large blue ring"),
        "x": ("small green star", "large blue ring"),
    }.items():
        assert probing_edits.letter_of(Reading(facts("left of", *looks)), before, after) == letter
    assert probing_edits.letter_of(Reading(None), before, after) == "x"
    alone = replace(before, objects=before.objects[:1])  # the ring was to vanish
    for letter, looks in {
        "R": "small red star",
        "W": "large blue ring",
        "e": "small red ring",
    }.items():
        found = Reading(facts(None, looks))
        assert probing_edits.letter_of(found, before, alone) == letter
    silent = None, *facts("left of", "small pink star", "large blue ring")[1:]
    found = probing_edits.spoken(silent, before)  # a thought that does not name the background
    assert probing_edits.letter_of(found, before, after) == "R"
    both = Reading(facts("left of", "small red star", "large green ring"))
    assert probing_edits.letter_of(both, before, alone) == "n"
    grey = replace(before, background="gray")
    assert probing_edits.letter_of(Reading(before.facts), before, grey) == "N"
    wrong = "gray", *facts("left of", "small red star", "small blue ring")[1:]
    assert probing_edits.letter_of(Reading(wrong), before, grey) == "e"


def test_edits_take_turns_and_are_not_held_out():
    lab = SimpleNamespace(plan=ProbingPlan(prompts=30), rng=lambda part: random.Random(part))
    tried = list(probing_edits.tasks(lab))
    assert [kind for *_, kind in tried] == [probing_edits.KINDS[index % 7] for index in range(30)]
    for before, after, instruction, _ in tried:
        assert len(before.objects) == 2 and not is_held_out(after) and before.facts != after.facts
        assert instruction.startswith("the same but")


# --------------------------------------------------------------------------------------------------
# The whole study


@pytest.fixture(scope="module")
def results():
    """All parts on an untrained toy of two layers, every picture of which counts as right."""
    model = untrained_toy()
    model.llm.layers = model.llm.layers[:2]
    lab = Lab(model, TINY, other=model.dream_queries.flip(1))

    def found(judge, pictures, phrases):
        return [scene_of(parse_caption(phrase.text)) for phrase in phrases]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probing_lab, "scenes_found", found)
        patch.setattr(probing_roles, "toy_before", lambda stage: model)
        tower = toy.new_clip(len(model.tokenizer))[1].eval().requires_grad_(False)
        patch.setattr(toy, "pretrained_text_tower", lambda: tower)
        parts = {name: part(lab) for name, part in probing.PARTS.items()}
    runs = [{"part": name, "run": "toy", **content} for name, content in parts.items()]
    return json.loads(json.dumps({"runs": runs}))


def test_every_part_has_an_entry_for_each_prompt(results):
    of = {run["part"]: run for run in results["runs"]}
    assert set(of) == set(TABLES) == set(probing.PARTS)
    few, layers, queries = TINY.painted, 2, 16
    tracing = of["tracing"]
    assert len(tracing["points"]) == layers + 1
    for row in ("word", "queries"):
        assert [len(each) for each in tracing["losses"][row]] == [layers + 1] * 4
        assert [len(each) for each in tracing["verdicts"][row]] == [layers + 1] * few
    assert tracing["losses"]["same phrase"][0] is not None
    assert [each is None for each in tracing["together"]["random"]] == [True, False] * 2
    assert [len(each) for each in tracing["together"]["strongest"][1::2]] == [5, 5]
    # What holds by construction: the word is all that differs, and queries are all that is painted.
    losses = tracing["losses"]
    for index in range(4):
        own, donor = losses["own"][index], losses["donor"][index]
        assert abs(losses["word"][index][0] - donor) <= 1
        assert abs(losses["word"][index][-1] - own) <= 1
        assert abs(losses["queries"][index][0] - own) <= 1
        assert abs(losses["queries"][index][-1] - donor) <= 1
    assert torch.tensor(tracing["heads"]["words"]).shape == (4, layers, 6)
    knockout = of["knockout"]
    assert all(len(letters) == 4 for letters in knockout["all"].values())
    assert [len(each) for each in knockout["below"]["word to queries"]] == [layers - 1] * few
    decoder = of["decoder"]
    assert [len(each) for each in decoder["alone"]] == [len(decoder["layers"])] * few
    assert [len(each) for each in decoder["from"]] == [TINY.steps - 1] * few
    assert torch.tensor(of["roles"]["looked"]).shape == (4, 2, queries)
    assert all(abs(sum(each[0]) - 1000) <= queries for each in of["roles"]["looked"])
    letters = of["transfers"]["letters"]
    assert {len(each) for each in letters["1"].values()} == {4}
    assert {len(each) for each in letters["4"].values()} == {few}
    assert [len(each) for each in of["transfers"]["each"]] == [few] * queries
    assert torch.tensor(of["roles"]["text states"]).shape == (4, 2, 32)
    assert set(of["stages"]["looked"]) == {"stage2", "stage3"}
    pointing = of["pointing"]
    assert {len(each) for each in pointing["hits"]["best of all"]} == {6}
    searched = {f"{name}, best of all" for name in ("another run's queries", "kind means")}
    assert set(pointing["hits"]) >= {"rule", *searched}
    assert torch.tensor(pointing["counts"]["colour"]).shape == (len(pointing["hops"]), 8)
    readable = of["readable"]
    assert readable["prompts"] == 4 and set(readable["questions"]) == set(
        probing_readable.QUESTIONS
    )
    for name in probing_readable.STATES:
        counts = readable["questions"]["left"][name]["counts"]
        assert torch.tensor(counts).shape == (layers, 4)
    assert len(of["edits"]["thought"]) == 4
    assert [len(letters) for letters in of["edits"]["cut"].values()] == [4] * 5


def test_all_tables_are_made_of_a_whole_study(results):
    text = tables(results)
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == list(TABLES)
    assert tables({"runs": results["runs"][-1:]}).startswith("## edits")
    lines = TABLES["pointing"](results).split("\n\n")[0].splitlines()
    assert len({line.count("|") for line in lines}) == 1


def test_a_stopped_study_goes_on_and_another_plan_is_refused(tmp_path, monkeypatch, capsys):
    made = []
    model = SimpleNamespace(dream_queries=None)
    monkeypatch.setattr(probing, "load", lambda name: model)
    monkeypatch.setattr(probing, "Lab", lambda model, plan, other: plan)
    parts = {
        name: lambda plan, name=name: made.append(name) or {"n": plan.prompts}
        for name in ("one", "two")
    }
    monkeypatch.setattr(probing, "PARTS", parts)
    out = tmp_path / "out.json"
    probing.run_all(TINY, ["toy"], out, ["one"], progress=False)
    results = probing.run_all(TINY, ["toy", "toy-2"], out, ["one", "two"], progress=False)
    assert made == ["one", "two", "one", "two"]
    assert [(run["part"], run["run"]) for run in results["runs"]] == [
        ("one", "toy"),
        ("two", "toy"),
        ("one", "toy-2"),
        ("two", "toy-2"),
    ]
    assert results["command"].endswith("probing --runs toy toy-2 --prompts 4 --steps 2 --batch 3")
    assert json.loads(out.read_bytes())["runs"] == results["runs"]
    for wrong, words in (
        (["--out", str(out), "--prompts", "5"], "holds runs of another plan"),
        (["--prompts", "3"], "take 4 prompts, not 3"),
        (["--parts", "nothing"], "invalid choice"),
        (["--runs", "toy-7"], "invalid choice"),
        (["--table", "--out", "nowhere.json"], "nowhere.json is missing"),
    ):
        with pytest.raises(SystemExit):
            probing.main(wrong)
        assert words in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------
# Shares by hand


def study(part, *runs):
    return {"runs": [{"part": part, "run": f"toy-{i}", **run} for i, run in enumerate(runs)]}


def test_shares_cluster_the_runs_of_a_prompt():
    share = probing_shares.share_of([[1, 0, None, 1], [1, 0, 0, 1]])
    mean, low, high = clustered_interval([1, 0, 1, 1, 0, 0, 1], [0, 1, 3, 0, 1, 2, 3])
    lower, higher = wilson(4 / 7 * 4, 4)  # of four prompts, so that it is wider
    assert share.triple == pytest.approx((mean, min(low, lower), max(high, higher)))
    assert share.n == 7 and share.runs == (2 / 3, 1 / 2)
    assert str(share).startswith("57 [") and str(share).endswith("] (67/50)")
    assert math.isnan(probing_shares.share_of([[1, None]]).low)
    assert str(probing_shares.share_of([[], []])) == "-"
    difference = probing_shares.difference_of([[1, 1, None, 0]], [[0, 1, 1, 0]])
    assert difference.mean == pytest.approx(1 / 3) and difference.n == 3
    never = probing_shares.difference_of([[1, 1, 0, 0]] * 2, [[1, 1, 0, 0]] * 2)
    assert never.triple == pytest.approx((0, *newcombe((2, 4), (2, 4))))
    together = probing_shares.share_of([[1, 1, 0, 0] * 10], together=2)
    assert together.triple == probing_shares.share_of([[1, 0] * 10]).triple


def test_ways_are_compared_on_the_same_prompts():
    first = [[1] * 12, [1] * 8 + [0] * 4]
    same, worse = first, [[0] * 12, [0] * 12]
    found = probing_shares.compared(first, {"same": same, "worse": worse})
    assert found["same"][0].mean == 0 and found["same"][1] == 1
    assert probing_shares.p_value_of(first, [[0] * 12, [0] * 12]) == pytest.approx(2 * 0.5**8)
    # McNemar: 12 and 8 prompts, all on one side; the larger p, twice for two ways.
    assert found["worse"][0].mean == pytest.approx(20 / 24)
    assert found["worse"][1] == pytest.approx(2 * 2 * 0.5**8)


def tracing_by_hand():
    run = {
        "kinds": ["colour", "size", "colour", "colour"],
        "mentions": [0, 0, 1, 0],
        "verdicts": {"own": ["O", "O", "O", "x"], "donor": ["D", "D", "D", "D"]},
        "losses": {
            "own": [300, 400, 200, 900],
            "donor": [100, 200, 100, 100],
            "word": [[100, 250], [200, 400], [120, 200], [0, 0]],
            "object": [[200, 300], None, None, None],
        },
        "points": ["llm.embed", "llm.0.resid_post"],
        "heads": {"words": [[[300, 100]], [[400, 400]], [[200, 200]], [[0, 0]]]},
        "numbers": [1, 2],
        "together": {"random": [None, [400, 200], None, [0, 0]]},
    }
    run["verdicts"]["word"] = ["DO", "xd", "DO", "DD"]
    return study("tracing", run)


def test_what_patches_restore_by_hand():
    results = tracing_by_hand()
    # Of colours (200 + 80) / (200 + 100) and (50 + 0) / 300; the last was not right before. Of
    # sizes 200 / 200 and 0; a kind counts by its number of prompts.
    restored = probing_tracing_shares.restored
    colours = restored(results, "word", "colour")
    assert [share for share, *_ in colours] == pytest.approx([280 / 300, 50 / 300])
    shares = restored(results, "word")
    wanted = [(2 * 280 / 300 + 1) / 3, 2 * 50 / 300 / 3]
    assert [share for share, *_ in shares] == pytest.approx(wanted)
    assert math.isnan(restored(results, "word", "size")[0][0])  # one prompt
    assert math.isnan(restored(results, "object")[0][0])  # one that has such words
    ((none, first),) = probing_tracing_shares.restored_by_head(results, "words")
    assert (none[0], first[0]) == pytest.approx((0, 2 * 200 / 300 / 3))
    ((none, first),) = probing_tracing_shares.restored_by_head(results, "words", half=0)
    assert first[0] == pytest.approx(200 / 300)  # the third prompt gains nothing
    assert math.isnan(probing_tracing_shares.restored_together(results, "random")[0][0])
    assert probing_tracing_shares.mean_losses(results, "colour") == (250, 100)
    shown = probing_shares.curve(results, "tracing", lambda run: run["verdicts"]["word"], "D")
    assert [(share.mean, share.n) for share in shown] == [(pytest.approx(2 / 3), 3), (0, 3)]
    shown = probing_shares.curve(results, "tracing", lambda run: run["verdicts"]["word"], "Dd")
    assert [share.mean for share in shown] == pytest.approx([2 / 3, 1 / 3])


def test_what_knockouts_keep_by_hand():
    run = {
        "kinds": ["colour", "shape", "colour"],
        "mentions": [0, 0, 1],
        "own": ["O", "O", "d"],
        "all": {"word to queries": ["x", "O", "O"], "counterpart to queries": ["o", "s", "x"]},
    }
    kept = probing_shares.kept(study("knockout", run, run))
    assert kept["word to queries"].mean == 0.5 and kept["counterpart to queries"].mean == 1
    assert kept["word to queries"].n == 4
    assert probing_shares.kept(study("knockout", run), "colour")["word to queries"].mean == 0


def test_roles_by_hand():
    def looked(*queries):
        return [[1000 * (query == each) for each in range(4)] for query in queries]

    run = {
        "looked": [looked(0, 1), looked(0, 1), looked(0, 1), looked(0, 2), None, looked(0, 1)],
        "phrasing": ["between", "after", "between", "between", "between", "after"],
        "relation": ["left", "left", "over", "over", "left", "over"],
        "leading": [1, 0, 1, 0, 1, 0],
    }
    run["text states"] = run["looked"]
    results = study("roles", run)
    assert told_by(results, "mention") == [[1, 1, 1, 0.5, None, 1]]
    assert told_by(results, "mention", "after") == [[None, 1, None, None, None, 1]]
    assert told_by(results, "mention", relation="left") == [[1, 1, None, None, None, None]]
    # By side: even prompts lead, odd ones do not, so that each half predicts the other wrongly; of
    # what nothing tells, the most frequent query is half right.
    assert told_by(results, "side") == [[0, 0, 0, 0, None, 0]]
    assert told_by(results, "nothing")[0][:3] == [0.5] * 3
    results["runs"].append({"part": "stages", "run": "toy", "looked": {"stage3": run["looked"]}})
    assert told_before(results, "stage3", "mention") == told_by(results, "mention")
    # The first object's cells look at query 0 more, wherever it is.
    assert told_apart(results, "mention") == [[1, 1, 1, 1, None, 1]]
    assert told_apart(results, "mention", stage="stage3") == told_apart(results, "mention")
    assert told_apart(results, "side") == [[0, 0, 0, 0, None, 0]]
    assert told_apart(results, "mention", "after") == [[None, 0, None, None, None, 0]]  # no others
    similar = profile_similarity(results)  # of prompts 0 and 1, and of 2 and 3
    assert similar["same mention"].mean == pytest.approx((1 + (1 - 1 / 3) / 2) / 2)
    assert similar["other mention"].mean < 0
    assert similar["text states"] == similar["same mention"]


def test_other_shares_by_hand():
    run = {"letters": {"1": {"map": "TtN-", "rule": "TTN-"}}, "mention": [0] * 4}
    transfers = study("transfers", run | {"each": ["TNxx", "NNTT"]})
    assert transferred(transfers, "map") == [[1, 0, 0, None]]
    assert transferred(transfers, "map", wanted="tT") == [[1, 1, 0, None]]
    # The second query does best in the second half, and is taken in the first; and the other way.
    assert transferred(transfers, "best rule") == [[0, 0, 0, 0]]
    assert transfer_share(transfers, "map").mean == pytest.approx(1 / 3)
    pointing = study(
        "pointing", {"hits": {"a": ["110000", "", "010010"]}, "uniform": [[100, 300], None]}
    )
    assert (
        hits(pointing, "a") == [[2 / 6, None, 2 / 6]] and hits(pointing, "a", "colour")[0][2] == 1
    )
    assert hits(pointing, "uniform") == [[0.2, None]]
    pointing["runs"][0]["hits"] |= {"best of all": ["111111", "", "110000"], "rule": ["1" * 6] * 3}
    assert pointing_differences(pointing, "colour")["rule"].mean == pytest.approx(-0.25)
    question = {
        "own": {"counts": [[4, 2, None]], "best": ["10-"], "query": [3]},
        "shuffled labels": {"counts": [[1, 0, None]], "best": ["00-"], "query": [3]},
    }
    curves = readable_curves(
        study("readable", {"queries": 4, "questions": {"left": question}}), "left"
    )
    means = {name: shares[0].mean for name, shares in curves.items()}
    controls = {"shuffled labels, mean": 0.125, "shuffled labels, best": 0}
    assert means == {"mean": 0.75, "best": 0.5, **controls}
    edits = study("edits", {"kinds": ["swap", "vanish"] * 6, "direct": ["R", "N"] * 6})
    edits["runs"][0] |= {"thinking": ["R"] * 12, "cut": {"a way": ["N"] * 12}}
    edits["runs"][0] |= {"thought": ["R", "W", "W"] * 4, "follows": [1, 0, 1] * 4}
    assert edited(edits, "a way", "N") == [[1] * 12]
    assert (
        painted_as_thought(edits, True).mean == 1 and painted_as_thought(edits, False).mean == 0.5
    )
    assert edited(edits, "direct", "N", ["vanish"])[0][:3] == [None, 1, None]
    difference, p_value = thinking_helps(edits)
    assert difference.mean == 0.5 and p_value == pytest.approx(2 * 0.5**6)
    with pytest.raises(
        ValueError, match=r"no run of 'roles' in these results; there are \['edits'\]"
    ):
        told_by(edits, "mention")
