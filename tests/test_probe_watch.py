"""`probe.watch`: the outputs of modules, chosen by name, from the real pass."""

import pytest
import torch
from models_shared import untrained_toy
from torch import nn
from torch.testing import assert_close

from minidream import probe
from minidream.probe.watch import matching_modules


@pytest.fixture(scope="module")
def model():
    return untrained_toy()


class Pair(nn.Module):
    """Returns its input twice, as a tuple, after adding a number."""

    def __init__(self, number: float):
        super().__init__()
        self.number = number
        self.inner = nn.Identity()

    def forward(self, values):
        return self.inner(values + self.number), "beside it"


class Chain(nn.Module):
    """Two pairs in a list, one after the other, and a module that never runs."""

    def __init__(self):
        super().__init__()
        self.pairs = nn.ModuleList([Pair(1.0), Pair(10.0)])
        self.unused = nn.Identity()

    def forward(self, values):
        for pair in self.pairs:
            values, _ = pair(values)
        return values


def hooks_of(model) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_every_call_is_recorded_in_the_order_of_the_names():
    chain = Chain()
    with probe.watch(chain, "pairs.*") as outputs:
        chain(torch.tensor([0.0]))
        chain(torch.tensor([5.0]))
    assert list(outputs) == ["pairs.0", "pairs.1"]  # and neither pairs nor pairs.0.inner
    values = {name: [each.item() for each in list_] for name, list_ in outputs.items()}
    assert values == {"pairs.0": [1, 6], "pairs.1": [11, 16]}
    assert hooks_of(chain) == 0


@pytest.mark.parametrize(
    "pattern, names",
    [
        ("pairs.1", ["pairs.1"]),
        ("pairs.*.inner", ["pairs.0.inner", "pairs.1.inner"]),
        ("pairs.[1-9].*", ["pairs.1.inner"]),
        ("*", ["pairs", "unused"]),
    ],
)
def test_a_wildcard_matches_within_one_part_of_a_name(pattern, names):
    assert list(matching_modules(Chain(), pattern)) == names


def test_a_module_that_did_not_run_has_an_empty_list():
    chain = Chain()
    with probe.watch(chain, "pairs.*") as outputs:
        chain.pairs[1](torch.tensor([0.0]))
    assert [len(each) for each in outputs.values()] == [0, 1]
    with pytest.raises(RuntimeError, match="'unused' matches 1 modules, and none of them ran"):
        with probe.watch(chain, "unused"):
            chain(torch.tensor([0.0]))


def test_hooks_are_removed_after_an_exception_and_those_of_others_stay():
    chain, calls = Chain(), []
    foreign = chain.pairs[0].register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(ZeroDivisionError), probe.watch(chain, "pairs.*"):
        raise ZeroDivisionError
    assert hooks_of(chain) == 1
    chain(torch.tensor([0.0]))
    assert calls == [1]
    foreign.remove()


def test_a_pattern_without_a_match_is_refused_before_the_block_runs(model):
    with pytest.raises(ValueError, match=r"'llm.layer.\*'; the nearest names are .*llm\.layers"):
        with probe.watch(model, "llm.layer.*"):
            raise AssertionError("the block must not run")
    with pytest.raises(ValueError, match="nearest names are pairs, unused"):
        with probe.watch(Chain(), "something.else.entirely"):
            raise AssertionError("the block must not run")


def test_an_output_that_is_no_tensor_is_an_error():
    class Words(nn.Module):
        def forward(self, values):
            return ["a", "b"]

    model = nn.Sequential(Words())
    with pytest.raises(TypeError, match="0 returned no tensor, but a str"):
        with probe.watch(model, "0"):
            model(torch.zeros(1))
    assert hooks_of(model) == 0


def test_the_layers_of_the_language_model_are_those_of_the_residual_stream(model):
    prompts = ["a red circle", "a small blue square on a black background"]
    with probe.watch(model, "llm.layers.*") as outputs, probe.watch(model, "llm.norm") as last:
        states = model.encode(prompts)
    stream = torch.stack([hidden[:, -model.queries :] for (hidden,) in outputs.values()])
    assert len(outputs) == 6
    assert_close(stream, probe.query_stream(model, prompts))
    assert_close(last["llm.norm"][0][:, -model.queries :], states)


def test_the_unets_output_object_is_recorded_by_its_sample(model):
    with probe.watch(model, "decoder.unet") as outputs:
        model.dream("a red circle", num_inference_steps=2, guidance_scale=1.0)
    shapes = [tuple(each.shape) for each in outputs["decoder.unet"]]
    assert shapes == [(1, *model.decoder.latent_shape)] * 2


def test_gradients_flow_through_what_was_recorded():
    """The textbook's chain rule: the output is the sum of input, 1 and 10."""
    chain, start = Chain(), torch.tensor([2.0], requires_grad=True)
    with probe.watch(chain, "pairs.0") as outputs:
        result = chain(start).square().sum()
    (gradient,) = torch.autograd.grad(result, outputs["pairs.0"][0])
    assert gradient.item() == 2 * 13
