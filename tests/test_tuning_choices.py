"""What is chosen learns, and nothing else; afterwards the model has the form that it had."""

import copy

import pytest
import torch
from models_shared import untrained_toy
from PIL import Image

from minidream import Document
from minidream.tuning import choices
from minidream.tuning.choices import check_choices, choose, dtypes_of, merge, trained_of

PICTURE = Image.linear_gradient("L").resize((64, 64))
DOCUMENTS = [Document(["a red circle", PICTURE]), Document([PICTURE, "a star"], targets=[])]
PARTS = {
    "lora": ("llm.layers.",),
    "projectors": ("vision.projector.", "decoder.projector.", "dream_queries"),
    "llm": ("llm.",),
    "unet": ("decoder.unet.",),
}


@pytest.fixture(scope="module")
def original():
    return untrained_toy()


@pytest.mark.parametrize("learn", [("lora",), ("projectors",), ("llm",), ("unet", "lora")])
def test_only_what_is_chosen_changes(original, learn):
    model = copy.deepcopy(original)
    dtypes = dtypes_of(model)
    torch.manual_seed(0)
    choose(model, learn, rank=3)
    before = model.encode("a red circle")
    assert torch.equal(before, original.encode("a red circle")), "nothing is changed by choosing"
    optimizer = torch.optim.AdamW(trained_of(model), lr=1e-2, weight_decay=0.5)
    for seed in range(2):  # the second matrix of a LoRA learns first
        model.loss(DOCUMENTS, torch.Generator().manual_seed(seed)).total.backward()
        assert all(parameter.grad is not None for parameter in trained_of(model))
        optimizer.step()
        optimizer.zero_grad()
    tuned = model.encode("a red circle")
    merge(model, dtypes)
    torch.testing.assert_close(model.encode("a red circle"), tuned)
    allowed = tuple(prefix for choice in learn for prefix in PARTS[choice])
    state, old = model.state_dict(), original.state_dict()
    assert state.keys() == old.keys() and not model.training
    changed = {name for name in old if not torch.equal(state[name], old[name])}
    assert all(name.startswith(allowed) for name in changed)
    for prefix in allowed:
        assert any(name.startswith(prefix) for name in changed), prefix
    if "lora" in learn:
        in_llm = {name.split(".")[-2] for name in changed if name.startswith("llm.")}
        assert in_llm == set(choices.LORA_MATRICES)


def test_what_learns_is_float32_and_is_stored_as_before(original):
    model = copy.deepcopy(original).to(torch.bfloat16)
    dtypes = dtypes_of(model)
    choose(model, ("projectors", "lora"))
    assert {each.dtype for each in trained_of(model)} == {torch.float32}
    assert model.llm.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
    model.loss(DOCUMENTS).total.backward()
    merge(model, dtypes)
    assert set(dtypes_of(model).values()) == {torch.bfloat16}


def test_choices_that_do_not_go_together_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="choose lora or llm, not both"):
        check_choices(("llm", "lora"))
    check_choices(("llm", "projectors", "unet"))
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    check_choices(("llm",))
    with pytest.raises(ImportError, match="pip install 'minidream.tune.'"):
        check_choices(("lora",))
