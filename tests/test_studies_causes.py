"""The study of causes: verdicts and pairs by hand, patches and cuts exactly, shares by hand."""

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
    causes,
    causes_edits,
    causes_hops,
    causes_knockout,
    causes_lab,
    causes_pointing,
    causes_readable,
    causes_roles,
    causes_shares,
    causes_tracing,
)
from minidream.studies.causes_decoder import keys_of, latents_of_mixture
from minidream.studies.causes_lab import CausesPlan, Lab, Painted
from minidream.studies.causes_map_shares import (
    edited,
    follows_mention,
    follows_side,
    hits,
    profile_similarity,
    readable_curves,
    thinking_helps,
    transferred,
)
from minidream.studies.causes_pairs import (
    WORDS,
    counterpart,
    mentions,
    phrasing_of,
    sample_pair,
    scene_of,
    slot_of,
)
from minidream.studies.causes_table import TABLES, tables
from minidream.studies.causes_verdicts import Verdicts, encode_patched, mask_of, verdict
from minidream.studies.intervals import clustered_interval
from minidream.world.judge import Reading
from minidream.world.language import describe, parse_caption
from minidream.world.scenes import Scene, SceneObject, is_held_out, sample_scene

TINY = CausesPlan(prompts=4, steps=2, batch=3)
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
        "x": facts("left of", "small green star", "large blue ring"),
    }
    for letter, found in read.items():
        assert verdict(Reading(found), own, donor) == letter
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
    others = [causes_tracing.another_word(pair, rng) for pair in pairs]
    rows = [
        causes_tracing.rows_of(*each, model.queries)["same phrase"]
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


def test_rows_are_all_positions_but_the_start(lab, pairs):
    for pair in pairs:
        length = len(probe.positions(lab.model, pair.own.text).inputs)
        rows = causes_tracing.rows_of(pair, 0, length, lab.model.queries)
        parts = [rows[name] for name in ("word", "same phrase", "object", "rest")]
        assert sorted(sum(parts, [])) == rows["words"] == list(range(1, len(pair.own.words) + 1))
        assert rows["words"] + rows["dream start"] + rows["queries"] == list(range(1, length))


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
    edges, layers = causes_knockout.edges_of(model, pairs), [1, 2]
    assert_close(
        causes_knockout.encode_cut(
            model, texts, torch.zeros_like(edges["word to queries"]), layers
        ),
        model.encode(texts),
        **CLOSE,
    )
    for name in ("word to queries", "counterpart to queries", "rest to queries"):
        found = causes_knockout.encode_cut(model, texts, edges[name], layers)
        for index, pair in enumerate(pairs):
            where = probe.positions(model, texts[index])
            places = causes_knockout.places_of(pair, len(where.inputs), model.queries)
            sources = places[causes_knockout.EDGES[name][1]]
            with probe.cut(model, where.queries, sources, at=[f"llm.{each}" for each in layers]):
                assert_close(found[[index]], model.encode(texts[index]), **CLOSE)
        assert (found - model.encode(texts)).abs().max() > 1e-4


def test_nothing_of_a_word_is_left_once_all_that_could_read_it_is_cut(lab, pairs):
    model, every = lab.model, range(len(lab.model.llm.layers))
    own, donor = ([getattr(pair, name).text for pair in pairs] for name in ("own", "donor"))
    edges = causes_knockout.edges_of(model, pairs)
    both = edges["word to queries"] | edges["word to words"]
    found = [causes_knockout.encode_cut(model, texts, both, every) for texts in (own, donor)]
    assert_close(*found, **CLOSE)
    # One of the two ways is enough for a difference.
    for name in ("word to queries", "word to words"):
        one, other = (
            causes_knockout.encode_cut(model, texts, edges[name], every) for texts in (own, donor)
        )
        assert (one - other).abs().amax(dim=(1, 2)).min() > 1e-4


def test_queries_that_are_cut_off_from_one_another_know_nothing_of_one_another(lab, pairs):
    model, every = lab.model, range(len(lab.model.llm.layers))
    texts, edges = [pair.own.text for pair in pairs], causes_knockout.edges_of(model, pairs)
    changed = lab.other.clone()
    changed[:, 1:] = model.dream_queries[:, 1:]  # only the first query is another one
    control = causes_pointing.with_queries(model, changed)
    one, other = (
        causes_knockout.encode_cut(each, texts, edges["queries to queries"], every)
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
    assert done.right == [0, 1, 2, 4] and done.next_right(2) == 4 and done.next_right(4) == 0
    assert done.looked_at(0, 1).tolist() == [0, 1, 0, 0, 0]
    rule = causes_roles.rule_of(done, range(0, 5, 2))
    assert [each[0] for each in rule] == [0, 1]
    assert causes_roles.rule_of(done, [1])[0][0] == 3
    found = causes_roles.rankings_of(done, 1, 0, rule, random.Random(0))
    firsts = {way: queries[0] for way, queries in found.items()}
    assert firsts["map"] == 3 and firsts["other role"] == 4 and firsts["rule"] == 0
    assert firsts["another picture's map"] == 0 and firsts["random"] != 3
    assert all(sorted(queries) == [0, 1, 2, 3, 4] for queries in found.values())


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
        "N": ("small red star", "large blue ring"),
        "W": ("small red star", "small cyan square"),
        "x": ("small green star", "large blue ring"),
    }.items():
        assert causes_roles.letter_of(Reading(facts("left of", *looks)), own, donor, 0) == letter
    second = Reading(facts("left of", "small red star", "small cyan square"))
    assert causes_roles.letter_of(second, own, donor, 1) == "T"
    assert causes_roles.letter_of(Reading(None), own, donor, 1) == "x"


# --------------------------------------------------------------------------------------------------
# Maps


def test_first_hops_are_attention_and_what_it_adds(lab, pairs):
    model, texts = lab.model, [pair.own.text for pair in pairs[:3]]
    names = causes_hops.names_of_hops(len(model.llm.layers), 6)
    for text, hop in zip(texts, causes_hops.first_hops(model, texts)):
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
    norms, along = causes_hops.contributions(weights, value, out)
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
    found = causes_pointing.hits_of(done, 0, hops, cells)
    for way, layer, word in torch.cartesian_prod(*map(torch.arange, found.shape)).tolist():
        map_ = torch.einsum("q,qhw->hw", hops[way, :, word], cells[layer])
        mention, _ = causes_pointing.WORDS[word]
        assert found[way, layer, word] == (points_at(map_, done.masks[0]) == mention)
    assert causes_pointing.owned(done.masks[0]) == [250, 250]


def test_the_best_map_is_chosen_on_one_half():
    hits_by_index = {index: torch.zeros(3, 2, 6, dtype=torch.bool) for index in range(4)}
    colour = [1, 4]  # the words of that kind
    hits_by_index[0][2, 1, colour] = True
    hits_by_index[1][1, 0, colour] = True
    first, second = (
        causes_pointing.best_of(hits_by_index, half, [0, 1, 2], [0, 1]) for half in (0, 1)
    )
    assert first["colour"] == (2, 1) and second["colour"] == (1, 0) and first["size"] == (0, 0)
    assert causes_pointing.best_of(hits_by_index, 0, [1, 2], [0])["colour"] == (1, 0)
    assert causes_pointing.scored(hits_by_index[1], second) == [False, True, False] * 2


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
    labels["left"] = torch.where(order == 1, first, second)
    labels["right"] = torch.where(order == 1, second, first)
    one_hot = torch.eye(8)
    noise = 0.05 * torch.randn(2, 600, 3, 9, generator=generator)
    states = noise.clone()
    states[..., :8] += (one_hot[first] + one_hot[second])[None, :, None]
    states[1, ..., :8] += one_hot[first][:, None]  # the second layer also knows which is first
    train = 400
    taught = {name: each[:train] for name, each in labels.items()}
    right = causes_readable.answers(states, taught, labels)
    share = {name: each[..., train:].float().mean(dim=(1, 2)) for name, each in right.items()}
    assert share["present"].min() > 0.95
    assert 0.4 < share["first or second"][0] < 0.6 and share["first or second"][1] > 0.9
    assert share["left or right"].max() < 0.62 and share["first"][1] > 0.9
    assert causes_readable.chance_of("left or right", labels, train) == 0.5
    most = max(labels["first"][train:].tolist().count(colour) for colour in range(8))
    assert causes_readable.chance_of("first", labels, train) == round(most / 200, 4)
    shuffled = {
        name: each[torch.randperm(train, generator=generator)] for name, each in taught.items()
    }
    control = causes_readable.answers(states, shuffled, labels)["first"][..., train:]
    assert control.float().mean() < 0.3


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
        assert causes_edits.letter_of(Reading(facts("left of", *looks)), before, after) == letter
    assert causes_edits.letter_of(Reading(None), before, after) == "x"
    alone = replace(before, objects=before.objects[:1])  # the ring was to vanish
    for letter, looks in {
        "R": "small red star",
        "W": "large blue ring",
        "e": "small red ring",
    }.items():
        found = Reading(facts(None, looks))
        assert causes_edits.letter_of(found, before, alone) == letter
    silent = None, *facts("left of", "small pink star", "large blue ring")[1:]
    found = causes_edits.spoken(silent, before)  # a thought that does not name the background
    assert causes_edits.letter_of(found, before, after) == "R"
    both = Reading(facts("left of", "small red star", "large green ring"))
    assert causes_edits.letter_of(both, before, alone) == "n"
    grey = replace(before, background="gray")
    assert causes_edits.letter_of(Reading(before.facts), before, grey) == "N"
    wrong = "gray", *facts("left of", "small red star", "small blue ring")[1:]
    assert causes_edits.letter_of(Reading(wrong), before, grey) == "e"


def test_edits_take_turns_and_are_not_held_out():
    lab = SimpleNamespace(plan=CausesPlan(prompts=30), rng=lambda part: random.Random(part))
    tried = list(causes_edits.tasks(lab))
    assert [kind for *_, kind in tried] == [causes_edits.KINDS[index % 7] for index in range(30)]
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
        patch.setattr(causes_lab, "scenes_found", found)
        parts = {name: part(lab) for name, part in causes.PARTS.items()}
    runs = [{"part": name, "run": "toy", **content} for name, content in parts.items()]
    return json.loads(json.dumps({"runs": runs}))


def test_every_part_has_an_entry_for_each_prompt(results):
    of = {run["part"]: run for run in results["runs"]}
    assert set(of) == set(TABLES) == set(causes.PARTS)
    few, layers, queries = TINY.painted, 2, 16
    tracing = of["tracing"]
    assert len(tracing["points"]) == layers + 1
    for row in ("word", "queries"):
        assert [len(each) for each in tracing["losses"][row]] == [layers + 1] * 4
        assert [len(each) for each in tracing["verdicts"][row]] == [layers + 1] * few
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
    pointing = of["pointing"]
    assert {len(each) for each in pointing["hits"]["best of all"]} == {6}
    assert set(pointing["hits"]) >= {"rule", "another run's queries", "kind means, best of all"}
    assert torch.tensor(pointing["counts"]["colour"]).shape == (len(pointing["hops"]), 8)
    readable = of["readable"]
    assert readable["prompts"] == 4 and set(readable["questions"]) == set(causes_readable.QUESTIONS)
    assert torch.tensor(readable["questions"]["left"]["counts"]).shape == (layers, 4)
    assert len(of["edits"]["thought"]) == 4


def test_all_tables_are_made_of_a_whole_study(results):
    text = tables(results)
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == list(TABLES)
    assert tables({"runs": results["runs"][-1:]}).startswith("## edits")
    assert len({line.count("|") for line in TABLES["pointing"](results).splitlines()}) == 1


def test_a_stopped_study_goes_on_and_another_plan_is_refused(tmp_path, monkeypatch, capsys):
    made = []
    model = SimpleNamespace(dream_queries=None)
    monkeypatch.setattr(causes, "load", lambda name: model)
    monkeypatch.setattr(causes, "Lab", lambda model, plan, other: plan)
    parts = {
        name: lambda plan, name=name: made.append(name) or {"n": plan.prompts}
        for name in ("one", "two")
    }
    monkeypatch.setattr(causes, "PARTS", parts)
    out = tmp_path / "out.json"
    causes.run_all(TINY, ["toy"], out, ["one"], progress=False)
    results = causes.run_all(TINY, ["toy", "toy-2"], out, ["one", "two"], progress=False)
    assert made == ["one", "two", "one", "two"]
    assert [(run["part"], run["run"]) for run in results["runs"]] == [
        ("one", "toy"),
        ("two", "toy"),
        ("one", "toy-2"),
        ("two", "toy-2"),
    ]
    assert results["command"].endswith("causes --runs toy toy-2 --prompts 4 --steps 2 --batch 3")
    assert json.loads(out.read_bytes())["runs"] == results["runs"]
    for wrong, words in (
        (["--out", str(out), "--prompts", "5"], "holds runs of another plan"),
        (["--prompts", "3"], "take 4 prompts, not 3"),
        (["--parts", "nothing"], "invalid choice"),
        (["--runs", "toy-7"], "invalid choice"),
        (["--table", "--out", "nowhere.json"], "nowhere.json is missing"),
    ):
        with pytest.raises(SystemExit):
            causes.main(wrong)
        assert words in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------
# Shares by hand


def study(part, *runs):
    return {"runs": [{"part": part, "run": f"toy-{i}", **run} for i, run in enumerate(runs)]}


def test_shares_cluster_the_runs_of_a_prompt():
    share = causes_shares.share_of([[1, 0, None, 1], [1, 0, 0, 1]])
    expected = clustered_interval([1, 0, 1, 1, 0, 0, 1], [0, 1, 3, 0, 1, 2, 3])
    assert (share.mean, share.low, share.high) == pytest.approx(expected)
    assert share.n == 7 and share.runs == (2 / 3, 1 / 2) and str(share).startswith("57 [")
    assert math.isnan(causes_shares.share_of([[1, None]]).low)
    assert str(causes_shares.share_of([[], []])) == "-"
    difference = causes_shares.difference_of([[1, 1, None, 0]], [[0, 1, 1, 0]])
    assert difference.mean == pytest.approx(1 / 3) and difference.n == 3


def test_ways_are_compared_on_the_same_prompts():
    first = [[1] * 12, [1] * 8 + [0] * 4]
    same, worse = first, [[0] * 12, [0] * 12]
    found = causes_shares.compared(first, {"same": same, "worse": worse})
    assert found["same"][0].mean == 0 and found["same"][1] == 1
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
        },
        "heads": {"words": [[[300, 100]], [[400, 400]], [[200, 200]], [[0, 0]]]},
    }
    run["verdicts"]["word"] = ["DO", "xd", "DO", "DD"]
    return study("tracing", run)


def test_what_patches_restore_by_hand():
    results = tracing_by_hand()
    # (200 + 200 + 80) / (200 + 200 + 100) and (50 + 0 + 0) / 500; the last was not right before.
    shares = causes_shares.restored(results, "word")
    assert [share for share, *_ in shares] == pytest.approx([480 / 500, 50 / 500])
    colours = causes_shares.restored(results, "word", "colour")
    assert [share for share, *_ in colours] == pytest.approx([280 / 300, 50 / 300])
    assert math.isnan(causes_shares.restored(results, "word", "size")[0][0])  # one prompt
    ((none, first),) = causes_shares.restored_by_head(results, "words")
    assert (none[0], first[0]) == pytest.approx((0, 200 / 500))
    shown = causes_shares.curve(results, "tracing", lambda run: run["verdicts"]["word"], "D")
    assert [(share.mean, share.n) for share in shown] == [(pytest.approx(2 / 3), 3), (0, 3)]
    shown = causes_shares.curve(results, "tracing", lambda run: run["verdicts"]["word"], "Dd")
    assert [share.mean for share in shown] == pytest.approx([2 / 3, 1 / 3])


def test_what_knockouts_keep_by_hand():
    run = {
        "kinds": ["colour", "shape", "colour"],
        "mentions": [0, 0, 1],
        "own": ["O", "O", "d"],
        "all": {"word to queries": ["x", "O", "O"], "counterpart to queries": ["o", "o", "x"]},
    }
    kept = causes_shares.kept(study("knockout", run, run))
    assert kept["word to queries"].mean == 0.5 and kept["counterpart to queries"].mean == 1
    assert kept["word to queries"].n == 4
    assert causes_shares.kept(study("knockout", run), "colour")["word to queries"].mean == 0


def test_roles_by_hand():
    def looked(*queries):
        return [[1000 * (query == each) for each in range(4)] for query in queries]

    run = {
        "looked": [looked(0, 1), looked(0, 1), looked(0, 1), looked(0, 2), None, looked(0, 1)],
        "phrasing": ["between", "after", "between", "between", "between", "after"],
        "relation": ["left", "left", "over", "over", "left", "over"],
        "leading": [1, 0, 1, 0, 1, 0],
    }
    results = study("roles", run)
    assert follows_mention(results) == [[1, 1, 1, 0, None, 1]]
    assert follows_mention(results, "after") == [[None, 1, None, None, None, 1]]
    assert follows_mention(results, relation="left") == [[1, 1, None, None, None, None]]
    # By side: even prompts lead, odd ones do not, so that each half predicts the other wrongly.
    assert follows_side(results) == [[0, 0, 0, 0, None, 0]]
    similar = profile_similarity(results)
    assert similar["same mention"].mean == pytest.approx((1 + 1 + (1 - 1 / 3) / 2) / 3)
    assert similar["other mention"].mean < 0


def test_other_shares_by_hand():
    transfers = study("transfers", {"letters": {"1": {"map": "TtN-", "rule": "TTN-"}}})
    assert transferred(transfers, "map") == [[1, 0, 0, None]]
    assert transferred(transfers, "map", wanted="tT") == [[1, 1, 0, None]]
    pointing = study(
        "pointing", {"hits": {"a": ["110000", "", "010010"]}, "uniform": [[100, 300], None]}
    )
    assert (
        hits(pointing, "a") == [[2 / 6, None, 2 / 6]] and hits(pointing, "a", "colour")[0][2] == 1
    )
    assert hits(pointing, "uniform") == [[0.2, None]]
    question = {"counts": [[4, 2]], "control": [[1, 0]], "best": ["10"], "query": [3]}
    curves = readable_curves(
        study("readable", {"queries": 4, "questions": {"left": question}}), "left"
    )
    means = {name: shares[0].mean for name, shares in curves.items()}
    assert means == {"mean": 0.75, "control": 0.125, "best": 0.5}
    edits = study("edits", {"kinds": ["swap", "vanish"] * 6, "direct": ["R", "N"] * 6})
    edits["runs"][0]["thinking"] = ["R"] * 12
    assert edited(edits, "direct", "N", ["vanish"])[0][:3] == [None, 1, None]
    difference, p_value = thinking_helps(edits)
    assert difference.mean == 0.5 and p_value == pytest.approx(2 * 0.5**6)
    with pytest.raises(
        ValueError, match=r"no run of 'roles' in these results; there are \['edits'\]"
    ):
        follows_mention(edits)
