"""The families drawn: every family in the tree once, and what is drawn as learned learns."""
from copy import deepcopy

import matplotlib.pyplot as plt
import pytest
from minidream import stages
from minidream.families import drawn, family, runs

PLAN = family.Plan(steps=4, batch=2, prompts=1)


def test_every_family_is_a_leaf_of_the_tree_once():
    leaves = [leaf for families in drawn.TREE[1].values() for leaf in families]
    assert sorted(name for _, _, names in leaves for name in names) == sorted(runs.FAMILIES)
    figure = drawn.plot_tree()
    words = {text.get_text().replace("\n", " ") for text in figure.axes[0].texts}
    assert not plt.get_fignums() and {words for name, systems, _ in leaves for words in (name, systems)} <= words


@pytest.mark.parametrize("name", drawn.FLOWS)
def test_flows_are_whole(name):
    boxes, arrows = drawn.FLOWS[name]
    assert len({(column, row) for column, row, _, _ in boxes.values()}) == len(boxes)
    assert {end for arrow in arrows for end in arrow[:2]} == set(boxes)
    for start, end in drawn.GRADIENTS.get(name, []):
        assert boxes[start][1] == boxes[end][1] and boxes[start][0] > boxes[end][0]
    figure = drawn.plot_flows({name: "A title"})
    assert not plt.get_fignums() and {text for _, _, text, _ in boxes.values()} <= {text.get_text() for text in figure.axes[0].texts}


def test_what_is_drawn_as_learned_learns(monkeypatch):
    base = stages.toy_before("stage1-comprehension")
    monkeypatch.setattr(family.stages, "toy_before", lambda name: deepcopy(base))
    for name, (boxes, _) in drawn.FLOWS.items():
        system = runs.build(runs.FAMILIES[name][1], PLAN, 0)
        model, learned = system.model, {box for box, (_, _, _, kind) in boxes.items() if kind == drawn.LEARNED}
        assert model.llm.embed_tokens.weight.requires_grad == ("llm" in learned), name
        assert ("queries" in learned) == model.dream_queries.requires_grad, name
        assert "projector" not in boxes or any(parameter.requires_grad for part in (model.vision.projector, model.decoder.projector) for parameter in part.parameters())
        for frozen in (model.vision.tower, model.decoder.unet, model.decoder.vae):
            assert not any(parameter.requires_grad for parameter in frozen.parameters()), name


def test_an_unknown_flow_is_an_error():
    with pytest.raises(ValueError, match="no flow of"):
        drawn.plot_flows({"nobody": ""})
