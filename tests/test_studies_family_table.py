"""The families' runs and their table: resumed, true to the JSON, intervals worked by hand."""

import json
import math
from dataclasses import asdict

import pytest
from families_shared import pretrained_once

from minidream.families import evaluation, family, image_decoder, samples
from minidream.studies import family_runs, family_table, intervals
from minidream.studies.intervals import wilson
from minidream.studies.results import load_results

TINY = family.FamilyPlan(steps=2, batch=2, prompts=1)


@pytest.fixture(autouse=True, scope="module")
def shared():
    """The pretrained parts are read once."""
    with pretrained_once():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("families")


def made_of(run, folder, wanted):
    return family_runs.run_all(
        run,
        wanted,
        TINY,
        "families all",
        folder / "runs",
        folder / "out.json",
        progress=False,
    )


@pytest.fixture(scope="module")
def results(shared, folder):
    """Two families, one of them with two phases, trained and examined for as short as can be."""
    return made_of(family_runs.run, folder, [("projector", 5), ("plugin", 5)])


def test_a_run_says_all_that_is_needed_to_repeat_and_judge_it(folder, results):
    written = json.loads((folder / "out.json").read_bytes())
    assert written == json.loads(json.dumps(results))
    assert (
        written["command"]
        == "python -m minidream.studies families all --seeds 5 --steps 2 --batch 2 --prompts 1"
    )
    assert written["plan"] == asdict(TINY)
    plugin, projector = written["runs"]
    assert (projector["family"], projector["seed"], plugin["family"]) == ("projector", 5, "plugin")
    assert projector["samples"] == {"caption": 2, "question": 2} and projector["cannot"] == [
        "paint",
        "pair",
        "story",
        "edit",
        "locate",
        "verify",
    ]
    assert (
        list(plugin["recipes"]) == list(plugin["curves"]) == ["instructions", "plugin"]
        and sum(plugin["samples"].values()) == 4
    )
    assert projector["recipes"]["projector"]["steps"] == 2 and [
        set(line) for line in projector["curves"]["projector"]
    ] == [{"step", "total", "language"}]
    for done in written["runs"]:
        assert (
            done["torch"]
            and done["threads"] >= 1
            and done["machine"]
            and done["trained"] > 0
            and done["samples_per_second"] > 0
            and done["code"]
        )
        assert all(
            set(marks) == set(evaluation.COMBINATIONS)
            and all(
                mark["right"] in (0, 1) and mark["right"] <= mark["facts"] <= 1
                for mark in marks.values()
            )
            for marks in done["exam"].values()
        )
    assert set(projector["exam"]) == {"caption", "question"} and set(plugin["exam"]) == set(
        samples.PAINTED_KINDS + samples.TEXT_KINDS
    )


def test_finished_runs_are_not_repeated_and_other_plans_are_refused(folder, results):
    again = made_of(
        lambda *arguments: pytest.fail(f"run again: {arguments[:2]}"),
        folder,
        [("projector", 5), ("plugin", 5)],
    )
    assert again == results
    (folder / "out.json").unlink()  # a JSON that was lost is made again from what each run left
    made = []
    made_of(
        lambda name, seed, *rest: (
            made.append((name, seed)) or {**results["runs"][0], "family": name, "seed": seed}
        ),
        folder,
        [("projector", 5), ("lora", 5), ("projector", 6), ("lora", 6)],
    )
    assert made == [("lora", 5), ("projector", 6), ("lora", 6)]
    assert [
        (done["family"], done["seed"]) for done in load_results(folder / "out.json")["runs"]
    ] == [("lora", 5), ("lora", 6), ("plugin", 5), ("projector", 5), ("projector", 6)]
    with pytest.raises(ValueError, match="another plan"):
        load_results(folder / "out.json", family.FamilyPlan())


def test_every_family_learns_from_as_many_samples_and_a_painter_from_as_many_again():
    plan = family.FamilyPlan(steps=60, batch=2, prompts=1)
    for name in family_runs.FAMILIES:
        system = family_runs.build(family_runs.FAMILIES[name][1], plan, 0)
        own = any(isinstance(phase, image_decoder.ImageDecoder) for phase in system.phases)
        assert own == (name in ("alignment-image", "seed", "emu", "emu2"))
        samples_in_all = sum(family_runs.samples_by_kind(system).values())
        assert samples_in_all == (240 if own else 120), name


# --------------------------------------------------------------------------------------------------
# The table


def done(name, seed, right, cannot=()):
    """A run with as many right replies of every kind, of 8; one fewer for held-out ones."""
    marks = {
        "seen": {"right": right, "facts": right / 8, "stay": 5, "in place": 1},
        "held out": {"right": right - 1, "facts": 0.9, "stay": 5, "in place": 0},
    }
    chance = {
        kind: {
            name: {"right": 0, "facts": 0.25, "stay": 4, "in place": 1}
            for name in evaluation.COMBINATIONS
        }
        for kind in samples.SAMPLE_KINDS
    }
    return {
        "family": name,
        "seed": seed,
        "trained": 1234,
        "samples_per_second": 10.0 + seed,
        "cannot": list(cannot),
        "chance": chance,
        "exam": {kind: marks for kind in samples.SAMPLE_KINDS if kind not in cannot},
    }


BY_HAND = {
    "plan": {"steps": 600, "prompts": 8},
    "runs": [
        done("dreamllm", 1, 6, ("locate", "verify")),
        done("dreamllm", 0, 4, ("locate", "verify")),
        done("alignment-text", 0, 2),
        done("alignment-text", 1, 4),
        done("plugin", 0, 8),
    ],
}


def test_a_cell_by_hand():
    assert family_table.rows_of(BY_HAND) == [
        "plugin",
        "alignment-text",
        "dreamllm",
    ]  # what was not run does not appear
    shares, mean, low, high = family_table.cell(BY_HAND, "dreamllm", "captions")
    assert (
        shares == [4 / 8, 6 / 8] and mean == 10 / 16 and (low, high) == (0, 1)
    )  # Student's over two seeds: 0.625 +- 12.7 * 0.125
    assert (
        family_table.cell(BY_HAND, "plugin", "captions") == ([1.0], 1.0, *wilson(8, 8))
        and family_table.cell(BY_HAND, "plugin", "text to image, held out")[1] == 7 / 8
    )
    assert (
        family_table.cell(BY_HAND, "plugin", "text to image, held out", "facts")[1]
        == pytest.approx(0.9)
        and family_table.cell(BY_HAND, "dreamllm", "captions", "facts")[1] == 10 / 16
    )
    assert family_table.cell(BY_HAND, "dreamllm", "locate") is None
    assert (
        family_table.cell(BY_HAND, "plugin", family_table.IN_PLACE)
        == family_table.cell(BY_HAND, "plugin", family_table.IN_PLACE, "facts")
        == ([0.2], 0.2, *wilson(1, 5))
    )
    alike = {
        "plan": {"steps": 600, "prompts": 8},
        "runs": [done("lora", seed, 4) for seed in range(3)],
    }
    assert family_table.cell(alike, "lora", "captions") == (
        [0.5] * 3,
        0.5,
        *wilson(12, 24),
    )  # equal seeds do not make certain
    with pytest.raises(ValueError, match="no run of 'lora'"):
        family_runs.runs_of(BY_HAND, "lora")


def test_the_text_by_hand():
    text = family_table.text_of(BY_HAND).splitlines()
    assert (
        text[0].count("|")
        == text[1].count("|")
        == text[2].count("|")
        == len(family_table.COLUMNS) + 5
    )
    assert text[2].startswith("| plug-ins | 100 [68, 100] | 88 [53, 98] |") and text[2].endswith(
        "| 1,234 | 10 | 1 |"
    )
    assert text[4].startswith("| DreamLLM | 62 [0, 100] |") and text[4].count("cannot") == 2
    in_place = 1 + list(family_table.COLUMNS).index(family_table.IN_PLACE)
    assert text[5].startswith("| without looking | 0 | 0 | 0 |")
    assert text[5].split(" | ")[in_place] == "25"
    assert text[7].startswith("| facts right, ") and text[9].startswith(
        "| plug-ins | 100 [68, 100] | 90 ["
    )
    assert (
        text[14].startswith("Facts painted right, after 600 steps")
        and "4 comparisons" in text[14]
        and len(text) == 20
    )
    low, high = intervals.newcombe(
        (10, 16), (6, 16)
    )  # every seed leads by the same: the replies are few all the same
    assert (
        text[16] == "- learning from the score beats aligning to text states, paint: +25 "
        f"[{100 * low:+.0f}, {100 * high:+.0f}]. "
        "No difference that is larger than what seeds make."
    )


def test_a_claim_needs_two_seeds_of_both_families():
    assert family_table.claims_of({**BY_HAND, "runs": BY_HAND["runs"][:3]}) == []
    other = {
        **BY_HAND,
        "runs": [
            done("dreamllm", 0, 4),
            done("dreamllm", 1, 6),
            done("alignment-image", 0, 6),
            done("alignment-image", 1, 4),
        ],
    }
    assert family_table.claims_of(other) == [
        f"learning from the score beats aligning to image states, {kind}: +0 [-318, +318]. "
        "No difference that is larger than what seeds make."
        for kind in samples.PAINTED_KINDS
    ]


def test_what_is_painted_from_true_states_is_a_table_of_its_own():
    assert family_table.teachers_table(BY_HAND) == ""
    teacher = {kind: {"right": 6, "facts": 0.9} for kind in samples.PAINTED_KINDS}
    codes = {kind: {"right": 4, "facts": 0.9} for kind in samples.PAINTED_KINDS}
    runs = [{**done("seed", seed, 4), "teacher": teacher, "codes": codes} for seed in (0, 1)]
    taught = {**BY_HAND, "runs": [*BY_HAND["runs"], *runs]}
    header, _, *rows = family_table.teachers_table(taught).splitlines()
    assert header.endswith("| paint | pair | story | edit |")
    name = family_runs.FAMILIES["seed"][0]
    assert [row.split(" [")[0] for row in rows] == [f"| {name} | 75", f"| {name}, true codes | 50"]
    assert family_table.teachers_table(taught) in family_table.text_of(taught)


def test_the_figure_shows_every_cell_in_groups_with_those_who_can_do_it(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "minidream.studies.family_table.plot_table_groups",
        lambda *arguments: seen.update(zip(("groups", "title", "label"), arguments)),
    )
    reader = done("lora", 0, 4, (*samples.PAINTED_KINDS, *samples.BOX_KINDS))
    family_table.figure_of({**BY_HAND, "runs": [*BY_HAND["runs"], reader]})
    able = ["plug-ins", "alignment: text states", "DreamLLM", "without looking"]
    rows = {name: group[1] for name, group in seen["groups"].items()}
    assert rows == {
        "painting": able,
        "reading": [able[0], family_runs.FAMILIES["lora"][0], *able[1:]],
        "pointing": [able[0], able[1], able[3]],
    }
    columns = sum((group[2] for group in seen["groups"].values()), [])
    assert [name.replace("\n", " ") for name in columns] == list(family_table.COLUMNS)
    values, _, _, words = seen["groups"]["painting"]
    assert values[0][:3] == [1.0, 7 / 8, 1.0] and words[0][0] == "100% (68-100)"
    family_table.figure_of({**BY_HAND, "runs": [reader]})
    assert list(seen["groups"]) == ["reading"]
    family_table.figure_of(BY_HAND, ("pointing",))
    assert list(seen["groups"]) == ["pointing"]
    assert family_table.cell_words(None) == "cannot"
    assert family_table.cell_words(([], math.nan, math.nan, math.nan)) == "-"


def test_the_readme_says_what_the_committed_runs_say():
    results, readme = (
        load_results(family_runs.RESULTS),
        (family_runs.RESULTS.parents[2] / "README.md").read_text(encoding="utf-8"),
    )

    def differences(one, other, kinds, *options):
        return [
            "{:.0f} [{:.0f}, {:.0f}]".format(
                *(
                    100 * number
                    for number in family_table.family_difference(
                        results, one, other, kind, *options
                    )[1:4]
                )
            )
            for kind in kinds
        ]

    leads = differences("alignment-text", "dreamllm", samples.IMAGE_KINDS)
    assert "by {}, {} and {} points".format(*leads) in readme
    assert "(+11 points [+4, +19])" in readme and differences(
        "projector", "instructions", ("caption",), "held out", "right"
    ) == ["11 [4, 19]"]


def test_the_command_line(tmp_path, capsys, monkeypatch):
    seen, out = {}, tmp_path / "o.json"
    monkeypatch.setattr(
        family_runs,
        "run_all",
        lambda run, wanted, plan, study, folder, out, progress: seen.update(locals()) or BY_HAND,
    )
    family_table.main(
        [
            "lora",
            "flamingo",
            "--steps",
            "2",
            "--seeds",
            "3",
            "4",
            "--folder",
            str(tmp_path),
            "--out",
            str(out),
            "--quiet",
        ]
    )
    assert (
        seen["wanted"] == [("lora", 3), ("flamingo", 3), ("lora", 4), ("flamingo", 4)]
        and seen["study"] == "families all"
    )
    assert (
        seen["plan"] == family.FamilyPlan(steps=2)
        and seen["progress"] is False
        and seen["run"] is family_runs.run
    )
    assert (
        out.with_suffix(".md").read_text(encoding="utf-8") == family_table.text_of(BY_HAND)
        and out.with_suffix(".png").stat().st_size > 1000
    )
    assert "| DreamLLM |" in capsys.readouterr().out
    family_table.main(["all", "--out", str(out)])
    assert seen["wanted"] == [(name, seed) for seed in (0, 1, 2) for name in family_runs.FAMILIES]
    for wrong, words in (
        (["table", "--out", str(out)], "nothing was run yet"),
        (["lora", "--steps", "0"], "at least 1, not 0, 32 and 48"),
        (["nobody"], "invalid choice"),
    ):
        with pytest.raises(SystemExit):
            family_table.main(wrong)
        assert words in capsys.readouterr().err
    out.write_text(json.dumps(BY_HAND), encoding="utf-8")
    family_table.main(["table", "--out", str(out)])
    assert "| plug-ins |" in capsys.readouterr().out


def test_a_figure_that_fails_does_not_lose_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(family_table, "figure_of", lambda results: 1 / 0)
    with pytest.warns(UserWarning, match=r"out\.png could not be drawn: division by zero"):
        text = family_table.write_table(BY_HAND, tmp_path / "out.json")
    assert (tmp_path / "out.md").read_text(encoding="utf-8") == text
