"""Points, hooks, cuts and positions: exact against hooks made by hand, in every use of a model."""

import pytest
import torch
from einops import einsum, rearrange
from models_shared import tiny_official, untrained_toy
from PIL import Image
from torch.testing import assert_close

from minidream import Document, probe
from minidream.llm import rotary_angles, rotate

PROMPTS = ["a red circle", "a large blue square left of a small green star"]
MERGE = "batch heads tokens head_dim -> batch tokens (heads head_dim)"
CLOSE = dict(atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module", params=["toy", "official"])
def model(request):
    if request.param == "toy":
        return untrained_toy()
    return tiny_official()


@pytest.fixture(scope="module")
def document():
    return Document([Image.new("RGB", (40, 40), (200, 40, 40)), "a red circle"])


def test_every_point_of_the_language_model_is_what_plain_hooks_give(model):
    names = [name for name in probe.points(model) if name.startswith(("llm", "queries"))]
    held, handles = {}, []

    def keep(name):
        def hook(module, inputs, output):
            held[name] = inputs[0], output

        return hook

    for index, layer in enumerate(model.llm.layers):
        for name in ("self_attn", "mlp", "post_attention_layernorm", "input_layernorm"):
            handles.append(getattr(layer, name).register_forward_hook(keep(f"{index}.{name}")))
        handles.append(layer.register_forward_hook(keep(f"{index}.layer")))
        handles.append(layer.self_attn.o_proj.register_forward_hook(keep(f"{index}.o_proj")))
        handles.append(layer.self_attn.v_proj.register_forward_hook(keep(f"{index}.v_proj")))
    cache = probe.run_with_cache(model, PROMPTS[1], names)
    for handle in handles:
        handle.remove()
    config, tokens = model.llm.config, cache["llm.embed"].shape[1]
    for index, layer in enumerate(model.llm.layers):
        at = {name.split(".")[-1]: cache[f"llm.{index}.{name}"] for name in POINTS_OF_A_LAYER}
        before, after = held[f"{index}.layer"]
        assert_close(at["resid_pre"], before, **CLOSE)
        assert_close(at["resid_post"], after, **CLOSE)
        assert_close(at["resid_mid"], held[f"{index}.post_attention_layernorm"][0], **CLOSE)
        assert_close(at["attn_out"], held[f"{index}.self_attn"][1], **CLOSE)
        assert_close(at["mlp_out"], held[f"{index}.mlp"][1], **CLOSE)
        assert_close(rearrange(at["z"], MERGE), held[f"{index}.o_proj"][0], **CLOSE)
        assert_close(rearrange(at["v"], MERGE), held[f"{index}.v_proj"][1], **CLOSE)
        angles = rotary_angles(torch.arange(tokens)[None], config.head_dim, config.rope_theta)
        normed = held[f"{index}.input_layernorm"][1]
        for name in ("q", "k"):
            states = getattr(layer.self_attn, f"{name}_proj")(normed)
            split = "batch tokens (heads head_dim) -> batch heads tokens head_dim"
            states = rearrange(states, split, head_dim=config.head_dim)
            states = rotate(states, angles[:, None].cos(), angles[:, None].sin())
            assert_close(at[name], states, **CLOSE)
        groups = at["q"].shape[1] // at["k"].shape[1]
        key, value = (at[name].repeat_interleave(groups, dim=1) for name in ("k", "v"))
        scores = einsum(at["q"], key, "b heads rows dim, b heads inputs dim -> b heads rows inputs")
        causal = torch.ones(tokens, tokens).tril().bool()
        scores = (scores / config.head_dim**0.5).masked_fill(~causal, -torch.inf)
        assert_close(at["pattern"], scores.softmax(dim=-1), **CLOSE)
        assert_close(at["pattern"] @ value, at["z"], **CLOSE)
        assert_close(cache[f"queries.{index}"], after[:, -model.queries :], **CLOSE)
    assert_close(cache["llm.embed"], held["0.layer"][0], **CLOSE)
    assert_close(cache["llm.final"][:, -model.queries :], cache["queries"], **CLOSE)
    assert_close(cache["queries"], model.encode(PROMPTS[1]), **CLOSE)


POINTS_OF_A_LAYER = (
    *("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"),
    *("q", "k", "v", "pattern", "z"),
)


def test_points_of_vision_tower_and_unet_belong_together(model, document):
    points = probe.points(model)
    cache = probe.run_with_cache(model, document, [name for name in points if "clip" in name])
    cache |= probe.run_with_cache(model, document, "patches")
    assert_close(cache["patches"], model.vision(model.vision.pixels(document.images)), **CLOSE)
    layers = {name.split(".")[1] for name in cache if name.startswith("clip")}
    for layer in layers:
        at = {name: cache[f"clip.{layer}.{name}"] for name in POINTS_OF_A_LAYER}
        assert_close(at["pattern"] @ at["v"], at["z"], **CLOSE)
        out = model.vision.tower.encoder.layers[int(layer)].self_attn.out_proj
        assert_close(out(rearrange(at["z"], MERGE)), at["attn_out"], **CLOSE)
        assert_close(at["resid_pre"] + at["attn_out"], at["resid_mid"], **CLOSE)
        assert_close(at["resid_mid"] + at["mlp_out"], at["resid_post"], **CLOSE)
    last = cache[f"clip.{max(layers, key=int)}.resid_post"][:, 1:]
    assert_close(last, model.vision.features(model.vision.pixels(document.images)), **CLOSE)
    options = dict(seed=1, num_inference_steps=2, guidance_scale=3.0)
    with probe.watch_image(model, steps=True, heads=True) as maps:
        with probe.record(model, "unet.*.*.*") as cache:
            model.dream([document, "a red circle"], **options)
    assert len(cache) == len([name for name in points if name.startswith("unet")])
    for name, values in cache.items():
        assert len(values) == 2 and all(len(value) == 2 for value in values), name
        if name.endswith("pattern"):
            stem = name.removesuffix("pattern")
            for step, weights in enumerate(values):
                assert_close(weights @ cache[f"{stem}v"][step], cache[f"{stem}z"][step], **CLOSE)
    for index, layer in enumerate(running_order(maps.layers)):
        recorded = torch.stack(cache[f"unet.{index}.cross.pattern"])
        cells = rearrange(maps.layers[layer], "... height width -> ... (height width)")
        assert_close(recorded, rearrange(cells, "... queries cells -> ... cells queries"), **CLOSE)


def running_order(layers):
    return sorted(layers, key=lambda name: ("down", "mid", "up").index(name.split("_")[0]))


def painted(model, prompts, steps=2):
    options = dict(seed=3, num_inference_steps=steps, guidance_scale=2.0, output_type="latent")
    return torch.stack(model.dream(prompts, **options))


def test_at_every_point_a_value_can_be_changed_and_handing_it_back_changes_nothing(model, document):
    before, names = painted(model, [document], 1), list(probe.points(model))
    # All layers of a part are alike: the first and the last one stand for them.
    layers = {part: [name for name in names if name.startswith(part)] for part in PARTS}
    ends = {each[index].split(".")[1] for each in layers.values() for index in (0, -1)}
    for name in names:
        if name.count(".") > 1 and name.split(".")[1] not in ends:
            continue
        with probe.hooks(model, {name: torch.clone}):
            assert_close(painted(model, [document], 1), before, atol=1e-4, rtol=1e-4, msg=name)
        with probe.hooks(model, {name: lambda value: value * -2}):
            assert (painted(model, [document], 1) - before).abs().max() > 1e-6, name
    with probe.record(model, names):
        assert torch.equal(painted(model, [document], 1), before)
    assert torch.equal(painted(model, [document], 1), before)


PARTS = ("llm.", "clip.", "unet.")


def test_positions_count_without_padding_and_may_differ_between_prompts(model):
    alone = [probe.run_with_cache(model, prompt, "llm.1.z")["llm.1.z"] for prompt in PROMPTS]
    where = [probe.positions(model, prompt).words("a") for prompt in PROMPTS]
    cache = probe.run_with_cache(model, PROMPTS, "llm.1.z", positions=where, heads=[1])
    for row, (each, own) in enumerate(zip(alone, where)):
        assert_close(cache["llm.1.z"][row], each[0, [1]][:, own], atol=1e-4, rtol=1e-4)
    last = probe.run_with_cache(model, PROMPTS, "llm.1.z", positions=-1)["llm.1.z"]
    for row, each in enumerate(alone):
        assert_close(last[row, :, 0], each[0, :, -1], atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="was asked for in 2 prompts, and 1 of them have it"):
        probe.run_with_cache(model, PROMPTS, "llm.1.z", positions=alone[1].shape[2] - 1)
    with pytest.raises(ValueError, match="positions of 3 prompts were given, and there are 2"):
        probe.run_with_cache(model, PROMPTS, "llm.1.z", positions=[[1], [2], [3]])
    with pytest.raises(ValueError, match="2 and 1 were given|1 and 2 were given"):
        probe.run_with_cache(model, PROMPTS, "llm.1.z", positions=[[1], [2, 3]])


def test_only_the_named_positions_and_heads_change(model):
    name, where = "llm.0.z", [2, 1]
    before = probe.run_with_cache(model, PROMPTS[1], name)[name]
    with probe.hooks(model, {name: torch.zeros_like}, positions=where, heads=0):
        after = probe.run_with_cache(model, PROMPTS[1], name)[name]
    expected = before.clone()
    expected[:, 0, where] = 0
    assert_close(after, expected, **CLOSE)


def test_iterators_of_positions_and_heads_serve_every_point(model):
    cache = probe.run_with_cache(model, PROMPTS[1], "llm.*.z", iter([2, 1]), iter([0]))
    assert all(value.shape[1:3] == (1, 2) for value in cache.values()) and len(cache) > 1
    values = torch.zeros(1, 2, cache["llm.0.z"].shape[-1])
    with probe.patch(model, iter([2, 1]), values, at="llm.0.z", heads=iter([0])):
        found = probe.run_with_cache(model, PROMPTS[1], "llm.0.z", [1, 2], [0])["llm.0.z"]
    assert not found.any()


def test_the_null_condition_is_not_visited(model):
    null, states = model.null_states(), model.encode(PROMPTS)
    with probe.hooks(model, {"llm.0.resid_post": torch.zeros_like}):
        assert_close(model.null_states(), null)
        assert (model.encode(PROMPTS) - states).abs().max() > 1e-4


def test_hooks_act_while_a_model_answers_writes_and_learns(model):
    generator = torch.Generator().manual_seed(0)
    uses = {
        "chat": lambda: model.chat("a red circle", max_new_tokens=3),
        "write": lambda: model.write("a red circle", max_new_tokens=3, seed=0),
        "loss": lambda: model.loss("a red circle", generator),
        "dream": lambda: model.dream("a red circle", num_inference_steps=1),
    }
    for name, use in uses.items():
        with probe.record(model, "llm.0.k", positions=[2, 1]) as cache:
            use()
        first = cache["llm.0.k"][0]
        assert first.shape[2] == 2, name
        # The keys of the first positions are there in every later pass, from the cache.
        assert all(torch.equal(each, first) for each in cache["llm.0.k"]), name
        with probe.record(model, "llm.0.q", positions=[2, 1]) as cache:
            use()
        assert len(cache["llm.0.q"]) == 1, name


def test_what_is_unknown_or_never_reached_is_an_error(model):
    cases = [
        (ValueError, "no point matches 'llm.0.zz'; the nearest names are", ["llm.0.zz"], {}),
        (TypeError, "a point has a name, a str, not int", [3], {}),
        (ValueError, "llm.0.resid_pre has no heads", ["llm.0.resid_pre"], dict(heads=0)),
        (ValueError, "head 99 was asked for", ["llm.0.z"], dict(heads=99)),
        (ValueError, "query 99 was asked for", ["queries"], dict(positions=99)),
        (ValueError, "a position was named twice", ["llm.0.z"], dict(positions=[1, 1])),
        (ValueError, "no position was named", ["llm.0.z"], dict(positions=[])),
        (TypeError, "position is a number, not a str", ["llm.0.z"], dict(positions="1")),
    ]
    for error, message, names, options in cases:
        with pytest.raises(error, match=message), probe.record(model, names, **options):
            raise AssertionError("the block must not run")
    with pytest.raises(RuntimeError, match="reached unet.0.cross.z"):
        with probe.record(model, ["unet.0.cross.z", "llm.0.z"]):
            model.encode("a red circle")
    with pytest.raises(RuntimeError, match="reached llm.0.z at positions 400"):
        probe.run_with_cache(model, "a red circle", "llm.0.z", positions=400)
    with pytest.raises(ValueError, match="use `record` around `dream`"):
        probe.run_with_cache(model, "a red circle", "unet.0.cross.z")
    with pytest.raises(ValueError, match=r"the function returned \(1, 2\)"):
        with probe.hooks(model, {"queries": lambda value: torch.zeros(1, 2)}):
            model.encode("a red circle")


@pytest.mark.parametrize("heads", [None, [0]])
def test_a_cut_edge_is_a_mask_before_the_softmax(model, heads):
    where = probe.positions(model, PROMPTS[1])
    sources, chosen = (
        where.words("blue square"),
        heads or range(model.llm.config.num_attention_heads),
    )

    def mask_by_hand(module, inputs):
        query, key, value, mask = inputs
        allowed = torch.ones(query.shape[2], key.shape[2]).tril().bool()
        allowed = allowed.expand(1, query.shape[1], -1, -1).clone()
        for head in chosen:
            for reader in where.queries:
                allowed[:, head, reader, sources] = False
        return query, key, value, allowed

    attend = model.llm.layers[1].self_attn.attend
    handle = attend.register_forward_pre_hook(mask_by_hand)
    expected = model.encode(PROMPTS[1])
    handle.remove()
    with probe.cut(model, where.queries, sources, at="llm.1", heads=heads):
        assert_close(model.encode(PROMPTS[1]), expected, **CLOSE)
        weights = probe.run_with_cache(model, PROMPTS[1], "llm.1.pattern")["llm.1.pattern"]
    assert (model.encode(PROMPTS[1]) - expected).abs().max() > 1e-5
    cut = weights[:, list(chosen)][:, :, where.queries][..., sources]
    assert not cut.any() and weights[0, 0, 3, 2] > 0
    assert_close(weights.sum(dim=-1), torch.ones_like(weights[..., 0]), **CLOSE)


def test_without_anything_to_see_a_reader_reads_nothing(model):
    with probe.cut(model, 0, 0, at="llm.0"):
        z = probe.run_with_cache(model, "a red circle", "llm.0.z")["llm.0.z"]
    assert not z[:, :, 0].any() and z[:, :, 1].any()


def test_edges_from_cells_to_queries_are_cut(model):
    before = painted(model, PROMPTS)
    with probe.cut(model, None, [1, 0], at="unet.*.cross"):
        with probe.record(model, "unet.*.cross.pattern") as cache:
            after = painted(model, PROMPTS)
    assert (after - before).abs().max() > 1e-5
    for weights in cache.values():
        assert not weights[0][..., [0, 1]].any() and weights[0][..., 2:].any()


def test_patching_everything_before_a_layer_gives_the_other_prompt(model):
    one, other = "a red circle", "a blue square"
    states = probe.run_with_cache(model, other, "llm.1.resid_pre")["llm.1.resid_pre"]
    with probe.patch(model, None, states, at="llm.1.resid_pre"):
        assert_close(model.encode(one), model.encode(other), **CLOSE)
    where = probe.positions(model, one).words("red circle")
    own = probe.run_with_cache(model, one, "llm.1.resid_pre", where)["llm.1.resid_pre"]
    with probe.patch(model, where, own, at="llm.1.resid_pre"):
        patched = model.encode(one)
    assert_close(patched, model.encode(one), **CLOSE)


def test_means_are_those_of_all_real_positions_and_take_the_place_of_what_was_there(model):
    values = [probe.run_with_cache(model, each, "llm.1.z")["llm.1.z"][0] for each in PROMPTS]
    mean = torch.cat(values, dim=1).mean(dim=1, keepdim=True)
    assert_close(probe.mean_at(model, "llm.1.z", PROMPTS), mean, atol=1e-5, rtol=1e-4)
    assert_close(probe.mean_at(model, "queries", PROMPTS), model.encode(PROMPTS).mean(dim=0))
    with probe.ablate(model, [3, 1], at="llm.1.z", heads=[1]):
        found = probe.run_with_cache(model, PROMPTS[0], "llm.1.z")["llm.1.z"]
    expected = values[0].clone()
    expected[1, [3, 1]] = probe.mean_at(model, "llm.1.z")[1, 0]
    assert_close(found[0], expected, atol=1e-5, rtol=1e-4)
    with probe.ablate(model, [0]):
        assert_close(model.encode(PROMPTS)[:, 0], probe.mean_at(model)[[0, 0]])
    with pytest.raises(ValueError, match="use `cut`"):
        probe.mean_at(model, "llm.1.pattern")


def test_a_direction_is_added_at_one_position(model):
    where = probe.positions(model, PROMPTS[0]).words("red")
    name, direction = "llm.0.resid_post", torch.ones(model.dream_queries.shape[-1])
    before = probe.run_with_cache(model, PROMPTS[0], name)[name]
    with probe.steer(model, direction, 0.5, at=name, positions=where):
        after = probe.run_with_cache(model, PROMPTS[0], name)[name]
    expected = before.clone()
    expected[:, where] += 0.5
    assert_close(after, expected, **CLOSE)


def test_attribution_patching_is_exact_where_nothing_but_a_sum_follows(model):
    one, other = "a red circle", "a blue square"

    def target(states):
        return states.sum(dim=(1, 2))

    estimate = probe.attribution_patching(model, other, one, target, ["queries", "llm.*.z"])
    difference = model.encode(other) - model.encode(one)
    assert_close(estimate["queries"], difference.sum(dim=-1), atol=1e-4, rtol=1e-4)
    last = len(model.llm.layers) - 1
    where = probe.positions(model, one).queries
    assert estimate[f"llm.{last}.z"][..., : where[0]].abs().max() == 0  # no later layer reads these
    # A small step towards the other prompt: there the estimate is the change itself.
    name, small = f"llm.{last}.z", 1e-2
    values = [probe.run_with_cache(model, each, name)[name] for each in (one, other)]
    step = values[0] + small * (values[1] - values[0])
    with probe.patch(model, where, step[:, [1]][:, :, where], at=name, heads=[1]):
        change = (target(model.encode(one)) - target(before_of(model, one))).item()
    total = small * estimate[name][0, 1, where].sum().item()
    assert abs(change - total) <= 0.1 * max(abs(total), 1e-3)
    with pytest.raises(ValueError, match="take .* positions: each needs a counterpart"):
        probe.attribution_patching(model, *PROMPTS, target, "queries")
    with pytest.raises(ValueError, match="patches is not in the language model"):
        probe.attribution_patching(model, one, other, target, "patches")


def before_of(model, prompt):
    """The states without any intervention of this thread's blocks: the null pass is untouched."""
    return model.null_states(prompt)


def test_the_last_layer_of_the_logit_lens_is_the_model(model):
    logits = probe.logit_lens(model, PROMPTS[0])
    final = probe.run_with_cache(model, PROMPTS[0], "llm.final")["llm.final"]
    assert logits.shape[0] == len(model.llm.layers)
    assert_close(logits[-1], model.llm.logits(final)[0], **CLOSE)
    assert_close(probe.logit_lens(model, PROMPTS[0], -1)[:, 0], logits[:, -1], **CLOSE)


def test_positions_name_words_patches_and_queries(model, document):
    where = probe.positions(model, document)
    assert [where.inputs[position] for position in where.queries] == list(range(model.queries))
    assert [where.inputs[position][0] for position in where.patches()] == [0] * model.vision.patches
    found = where.words("red circle")
    assert found == list(range(found[0], found[-1] + 1))
    assert model.tokenizer.encode("red circle") == [where.layout.ids[each] for each in found]
    with pytest.raises(ValueError, match="'blue' is not among the words"):
        where.words("blue")
    with pytest.raises(
        ValueError, match="occurrence 1 was asked for; the prompt has 'red' 1 times"
    ):
        where.words("red", 1)
    with pytest.raises(ValueError, match="image 1 is not among those"):
        where.patches(1)


def test_a_list_of_prompts_gives_the_traces_of_each(model, document):
    prompts = [*PROMPTS, document]
    for options in ({}, {"rollout": True}):
        for trace, prompt in zip(probe.dream_attention(model, prompts, **options), prompts):
            alone = probe.dream_attention(model, prompt, **options)
            assert trace.inputs == alone.inputs
            assert_close(trace.weights, alone.weights, **CLOSE)
