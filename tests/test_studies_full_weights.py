"""The ten questions of notebook 11: the toy passes what random weights cannot, and runs resume."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from models_shared import tiny_official

import minidream
from minidream import weights
from minidream.probe import Trace
from minidream.studies import full_weights, full_weights_questions
from minidream.studies.full_weights import Answer, FullWeightsPlan, answers
from minidream.studies.full_weights_lab import Asked, Lab, drawn_queries, partner_of, scenes_for
from minidream.studies.full_weights_questions import DESCRIBES, QUESTIONS
from minidream.world import describe

SMALL = FullWeightsPlan(prompts=2, draws=2, steps=2)
FEW = ["--prompts", "2", "--draws", "2", "--steps", "2", "--quiet"]
TINY = ["--model", str(weights.TINY / "checkpoint"), "--device", "cpu"]
TINY += ["--configs", str(weights.TINY / "component_configs")]
NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "11_full_weights.ipynb"


@pytest.fixture(scope="module")
def toy():
    return minidream.load("toy", device="cpu")


def test_an_answer_by_hand():
    clear = Answer([0.8, 0.9, 0.7], [[0.2, 0.3, 0.1], [0.3, 0.4, 0.2]])
    assert clear.levels == pytest.approx([0.2, 0.3]) and clear.gain[0] == pytest.approx(0.55)
    assert clear.needed == pytest.approx(0.1) and clear.beyond
    # The controls lie further apart than the model lies beyond them.
    assert not Answer([0.8, 0.9, 0.7], [[0.2, 0.3, 0.1], [0.7, 0.8, 0.6]]).beyond
    # Certain, but small; and large, but uncertain.
    assert not Answer([0.52, 0.52, 0.52], [[0.5, 0.5, 0.5]]).beyond
    assert not Answer([0.9, 0.1, 0.9], [[0.5, 0.5, 0.5]]).beyond


def test_partners_share_an_arrangement_and_no_describing_word():
    for scene in scenes_for(12):
        other = partner_of(scene)
        assert (other.background, other.relation) == (scene.background, scene.relation)
        pairs = zip(scene.objects, other.objects)
        places = [pair for one, two in pairs for pair in zip(one.appearance, two.appearance)]
        assert all(word != another for word, another in places)
        names = [[(item.colour, item.shape) for item in each.objects] for each in (scene, other)]
        assert not set(sum(names[0], ())) & set(sum(names[1], ()))
        roles = [describe(each, background=True).roles for each in (scene, other)]
        assert roles[0] == roles[1]


def test_drawn_queries_are_as_loud_and_leave_no_trace(toy):
    own = toy.dream_queries.data.clone()
    with pytest.raises(KeyError), drawn_queries(toy, 3):
        drawn = toy.dream_queries.data.clone()
        assert drawn.std().item() == pytest.approx(own.std().item(), rel=0.05)
        assert torch.corrcoef(torch.stack([drawn.flatten(), own.flatten()]))[0, 1].abs() < 0.1
        raise KeyError
    assert torch.equal(toy.dream_queries.data, own)


def stub(words, weights, queries=2):
    """What some questions need of a prompt."""
    trace = Trace(weights, [*range(weights.shape[-1])])
    model = SimpleNamespace(queries=queries)
    return SimpleNamespace(words=lambda *kinds: words, seen=trace, model=model)


def test_favourites_and_roles_by_hand():
    # Two heads, two queries; the first word has two tokens, and the second has one.
    looked = torch.tensor([[[0.2, 0.2, 0.3], [0.1, 0.1, 0.3]], [[0.0, 0.1, 0.5], [0.5, 0.1, 0.1]]])
    asked = stub([[0, 1], [2]], looked[None])
    chosen = full_weights_questions.favourites(asked, asked.seen)
    assert chosen.tolist() == [[[0, 1], [1, 0]]]
    assert full_weights_questions.agreement(chosen, chosen) == 1
    assert full_weights_questions.agreement(chosen, 1 - chosen) == 0
    assert full_weights_questions.against(torch.tensor(0.3), torch.tensor(0.1)) == 0.75


def test_positions_of_repeated_words_are_those_of_their_own_place(toy):
    scene = next(each for each in scenes_for(20) if len({i.size for i in each.objects}) == 1)
    asked = Asked(Lab(toy, 2, 2, 2), scene, 0)
    sizes = asked.words("size")
    assert len(sizes) == 2 and sizes[0] != sizes[1]
    labels = [asked.where.inputs[place] for (place,) in asked.words(*DESCRIBES)]
    assert labels == [word for item in scene.objects for word in item.appearance]


def test_the_trained_toy_passes_what_random_weights_cannot(toy):
    plan = FullWeightsPlan(prompts=4, draws=4)
    first_hop = {name: QUESTIONS[name] for name in ("heads", "division")}
    found = {}
    for name, model in {"toy": toy, "random": tiny_official()}.items():
        lab = Lab(model, plan.prompts, plan.draws, plan.steps)
        for question in first_hop:
            numbers = [first_hop[question].numbers(lab.asked(prompt)) for prompt in range(4)]
            own, by_prompt = zip(*numbers)
            controls = torch.tensor(by_prompt).T.tolist()
            found[name, question] = Answer([float(number) for number in own], controls)
    assert all(found["toy", question].beyond for question in first_hop)
    assert not any(found["random", question].beyond for question in first_hop)


def test_the_command_writes_resumes_and_draws(tmp_path, monkeypatch, capsys):
    out = tmp_path / "answers.json"
    full_weights.main([*TINY, *FEW, "--out", str(out)])
    assert capsys.readouterr().out.count("not beyond the control") >= 8
    assert out.with_suffix(".png").stat().st_size > 10_000
    results = json.loads(out.read_bytes())
    assert len(results["runs"]) == 2 * len(QUESTIONS) and "--prompts 2" in results["command"]
    assert results["model"]["name"] == "checkpoint" and results["model"]["dtype"] == "float32"
    assert str(weights.TINY) not in out.read_text(encoding="utf-8")  # no path of this machine
    for name, answer in answers(results).items():
        numbers = [*answer.own, *sum(map(list, answer.controls), [])]
        assert all(0 <= number <= 1 for number in numbers), name
    # What is there is not asked again; what is missing is.
    lost = results["runs"].pop(3)
    with pytest.raises(ValueError, match=f"{lost['question']!r} was asked about 1 prompts, not 2"):
        answers(results)
    out.write_text(json.dumps(results), encoding="utf-8")
    asked = []
    for name, question in QUESTIONS.items():

        def watched(prompt, name=name, numbers=question.numbers):
            asked.append(name)
            return numbers(prompt)

        monkeypatch.setitem(QUESTIONS, name, replace(question, numbers=watched))
    full_weights.main([*TINY, *FEW, "--out", str(out)])
    again = json.loads(out.read_bytes())["runs"][-1]
    assert asked == [lost["question"]] == [again["question"]]
    assert again["own"] == pytest.approx(lost["own"], abs=1e-3)
    with pytest.raises(SystemExit):
        full_weights.main([*TINY, "--prompts", "3", "--out", str(out)])
    assert "another plan" in capsys.readouterr().err
    with pytest.raises(ValueError, match="answers of another model"):
        full_weights.ask(minidream.load("toy", device="cpu"), SMALL, out)


def test_the_slot_is_for_the_full_weights(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        full_weights.main(["--model", "toy", "--device", "cpu"])
    assert "is for the full weights: choose another --out" in capsys.readouterr().err
    monkeypatch.setattr(full_weights, "find_full", lambda: None)
    with pytest.raises(SystemExit):
        full_weights.main([])
    assert "the full weights are not on this machine" in capsys.readouterr().err
    if full_weights.RESULTS.exists():
        results = json.loads(full_weights.RESULTS.read_bytes())
        model = results["model"]
        assert (model["queries"], model["hidden"]) == full_weights.FULL and answers(results)


@pytest.mark.parametrize("plan", [{"prompts": 1}, {"draws": 1}, {"steps": 0}])
def test_a_plan_without_an_interval_is_refused(plan):
    with pytest.raises(ValueError):
        FullWeightsPlan(**plan)


def test_the_notebook_lists_the_very_questions():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    listed = re.findall(r"^\d+\. \*\*(.+?)\*\* (.+?\?)", text, re.MULTILINE)
    assert listed == [(name, question.ask) for name, question in QUESTIONS.items()]
    assert full_weights.COMMAND in text
