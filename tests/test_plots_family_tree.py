"""The families drawn: every family in the tree once, and what is drawn as learned learns."""

import matplotlib.pyplot as plt
import pytest
from families_shared import build

from minidream.plots import family_flows, family_tree
from minidream.studies import family_runs


def test_every_family_is_a_leaf_of_the_tree_once():
    leaves = [leaf for families in family_tree.TREE[1].values() for leaf in families]
    assert sorted(name for _, _, names in leaves for name in names) == sorted(family_runs.FAMILIES)
    figure = family_tree.plot_tree()
    words = {text.get_text().replace("\n", " ") for text in figure.axes[0].texts}
    assert (
        not plt.get_fignums()
        and {words for name, systems, _ in leaves for words in (name, systems)} <= words
    )


@pytest.mark.parametrize("name", family_tree.FLOWS)
def test_flows_are_whole(name):
    boxes, arrows = family_tree.FLOWS[name]
    assert len({(column, row) for column, row, _, _ in boxes.values()}) == len(boxes)
    assert {end for arrow in arrows for end in arrow[:2]} == set(boxes)
    for start, end in family_tree.GRADIENTS.get(name, []):
        assert boxes[start][1] == boxes[end][1] and boxes[start][0] > boxes[end][0]
    figure = family_tree.plot_flows({name: "A title"})
    assert not plt.get_fignums() and {text for _, _, text, _ in boxes.values()} <= {
        text.get_text() for text in figure.axes[0].texts
    }


# Box -> where what it stands for lies in a family.
PARTS = {
    "llm": "model.llm.norm",
    "queries": "model.dream_queries",
    "clip": "model.vision.tower",
    "unet": "model.decoder.unet",
    "vae": "model.decoder.vae",
    "back": "model.decoder.vae",
    "sd": "model.decoder.unet",
    "detour": "model.llm.layers.0.self_attn.q_proj.up",
    "prompts": "model.llm.layers.0.self_attn.attend.prompts",
    "gates": "model.llm.layers.0.gates",
}


def test_what_is_drawn_as_learned_learns():
    checked = set()
    for name, (boxes, _) in family_tree.FLOWS.items():
        system = build(name)
        learns = {key: parameter.requires_grad for key, parameter in system.named_parameters()}
        sees = "picture" in boxes and "words" in boxes
        for box, (_, _, _, kind) in boxes.items():
            if kind in (family_tree.DATA, family_tree.TEACHER):
                continue
            if kind == family_flows.APART:
                others = [phase for phase in system.phases if phase is not system]
                assert others and not {
                    value for phase in others for value in phase.parameters()
                } & {value for value in system.parameters() if value.requires_grad}
                continue
            part = PARTS.get(box) or (
                "model.vision.projector" if sees else "model.decoder.projector"
            )
            found = [
                grad for key, grad in learns.items() if key == part or key.startswith(f"{part}.")
            ]
            assert found and set(found) == {kind == family_tree.LEARNED}, (name, box)
            checked.add(box)
    assert set(PARTS) | {"projector"} == checked


def test_an_unknown_flow_is_an_error():
    with pytest.raises(ValueError, match="no flow of"):
        family_tree.plot_flows({"nobody": ""})
