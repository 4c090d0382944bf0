"""Probes show what the real pass did, change nothing, and always remove their hooks."""

import math

import pytest
import torch
from einops import rearrange
from models_shared import tiny_official, untrained_toy
from PIL import Image

import minidream
from minidream import probe
from minidream.documents import collate, lay_out
from minidream.probe import unet_attention


@pytest.fixture(scope="module")
def model():
    return untrained_toy()


@pytest.fixture(scope="module")
def story() -> minidream.Document:
    pictures = [Image.new("RGB", (40, 32), colour) for colour in ("red", "green")]
    return minidream.Document(
        ["a story: a small red circle.", pictures[0], "the circle turns green.", pictures[1]]
    )


def every_row(model, document) -> torch.Tensor:
    """Attention weights of the training layout by the textbook: (layers, heads, tokens, tokens)."""
    layout = lay_out(document, model.tokenizer, model.queries, model.vision.patches)
    embeddings = model.embed(collate([layout], model.tokenizer.special.pad), document.images)
    seen = []
    hooks = [
        layer.self_attn.attend.register_forward_hook(
            lambda module, inputs, output: seen.append(inputs)
        )
        for layer in model.llm.layers
    ]
    model.llm(embeddings)
    for hook in hooks:
        hook.remove()
    rows = []
    for query, key, _, _ in seen:
        key = key[0].repeat_interleave(query.shape[1] // key.shape[1], dim=0)
        scores = query[0] @ key.transpose(1, 2) / query.shape[-1] ** 0.5
        future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        rows.append(scores.masked_fill(future, -torch.inf).softmax(dim=-1))
    return torch.stack(rows)


def test_a_trace_holds_the_query_rows_of_the_real_attention(model, story):
    layout = lay_out(story, model.tokenizer, model.queries, model.vision.patches)
    whole = every_row(model, story)
    for image, (_, first) in enumerate(layout.queries):
        trace = probe.dream_attention(model, story, image=image)
        last = first + model.queries
        assert trace.weights.shape == (6, 6, 16, last) and trace.weights.dtype == torch.float32
        torch.testing.assert_close(trace.weights, whole[:, :, first:last, :last], atol=1e-5, rtol=0)
        torch.testing.assert_close(trace.weights.sum(dim=-1), torch.ones(6, 6, 16))


def test_a_rollout_is_the_product_of_all_rows_of_all_layers(model, story):
    layout = lay_out(story, model.tokenizer, model.queries, model.vision.patches)
    _, first = layout.queries[1]
    last, joined = first + model.queries, torch.eye(first + model.queries)
    for weights in every_row(model, story)[:, :, :last, :last]:
        joined = (weights.mean(dim=0) / 2 + torch.eye(last) / 2) @ joined
    trace = probe.dream_attention(model, story, rollout=True)
    assert (
        trace.weights.shape == (1, 1, 16, last)
        and trace.inputs == probe.dream_attention(model, story).inputs
    )
    torch.testing.assert_close(trace.weights[0, 0], joined[first:], atol=1e-5, rtol=0)
    torch.testing.assert_close(trace.weights.sum(dim=-1), torch.ones(1, 1, 16))


def test_prompts_of_a_batch_are_recorded_as_if_alone(model):
    """Padding on the left gets no attention; rows count from the longest prompt's start."""
    prompts = ["a red circle", "a small blue square on a black background"]
    traces = [probe.dream_attention(model, prompt) for prompt in prompts]
    longest = max(len(trace.inputs) for trace in traces)
    with probe.watch_input(model, torch.arange(longest - 16, longest)) as recorded:
        model.encode(prompts)
    assert len(recorded) == 6
    for row, trace in enumerate(traces):
        size = len(trace.inputs)
        both = torch.stack(recorded)[:, row]
        torch.testing.assert_close(both[..., longest - size :], trace.weights, atol=1e-5, rtol=0)
        assert not both[..., : longest - size].any()


def test_every_input_has_its_label(model, story):
    trace = probe.dream_attention(model, story)
    words = [label for label in trace.inputs if isinstance(label, str)]
    assert words == [
        "<s>",
        "a",
        "story",
        ":",
        "a",
        "small",
        "red",
        "circle",
        ".",
        "<dream_start>",
        "<dream_end>",
        "<im_start>",
        "<im_end>",
        "the",
        "circle",
        "turns",
        "green",
        ".",
        "<dream_start>",
    ]
    patches = [label for label in trace.inputs if isinstance(label, tuple)]
    assert patches == [(0, row, column) for row in range(8) for column in range(8)]
    assert [label for label in trace.inputs if isinstance(label, int)] == [*range(16), *range(16)]
    assert len(trace.inputs) == trace.weights.shape[-1] and trace.inputs[-16:] == list(range(16))


def test_a_prompt_without_a_painted_image_gets_queries_at_its_end(model):
    photo = Image.new("RGB", (32, 32), "blue")
    trace = probe.dream_attention(model, minidream.Document([photo, "the same but green"]))
    assert trace.inputs[:2] == ["<s>", "<im_start>"] and trace.inputs[-17:] == [
        "<dream_start>",
        *range(16),
    ]
    assert trace.patch_maps(0).shape == (16, 8, 8)
    places = [place for place, label in enumerate(trace.inputs) if label == (0, 2, 5)]
    torch.testing.assert_close(
        trace.patch_maps(0, layer=1, head=4)[:, 2, 5], trace.weights[1, 4, :, places[0]]
    )
    with pytest.raises(ValueError, match="no patches of image 1 .* hold 1 images"):
        trace.patch_maps(1)


def test_a_picture_that_is_not_there_is_an_error_with_both_numbers(model, story):
    with pytest.raises(ValueError, match="painted image 2 was asked for; the document has 2"):
        probe.dream_attention(model, story, image=2)
    with pytest.raises(ValueError, match="painted image 1 .* one query block"):
        probe.dream_attention(model, "a red circle", image=1)


def test_one_pass_is_made_and_no_hook_stays(model):
    passes = []
    foreign = model.llm.register_forward_hook(lambda *_: passes.append(1))
    kept = model.llm.layers[0].self_attn.attend.register_forward_pre_hook(lambda *_: None)
    probe.dream_attention(model, "a red circle")
    assert passes == [1]
    with pytest.raises(ZeroDivisionError), probe.watch_input(model, torch.tensor([0])):
        raise ZeroDivisionError
    hooks = [len(layer.self_attn.attend._forward_pre_hooks) for layer in model.llm.layers]
    assert hooks == [1, 0, 0, 0, 0, 0]  # somebody else's is still there
    foreign.remove()
    kept.remove()


def test_nothing_recorded_is_an_error(model):
    with (
        pytest.raises(RuntimeError, match="no attention layer was seen"),
        probe.watch_input(model, torch.tensor([0])),
    ):
        pass
    with pytest.raises(RuntimeError, match="no picture was painted"), probe.watch_image(model):
        pass


class TextbookProcessor:
    """An independent recorder: diffusers' unfused attention, whose weights it keeps."""

    def __init__(self):
        self.weights = []

    def __call__(self, attn, hidden_states, encoder_hidden_states, attention_mask=None):
        query, key, value = (
            attn.head_to_batch_dim(projection(states))
            for projection, states in (
                (attn.to_q, hidden_states),
                (attn.to_k, encoder_hidden_states),
                (attn.to_v, encoder_hidden_states),
            )
        )
        weights = attn.get_attention_scores(query, key)
        heads = "(batch heads) cells queries -> batch heads cells queries"
        self.weights.append(rearrange(weights, heads, heads=attn.heads))
        return attn.to_out[0](attn.batch_to_head_dim(weights @ value))


@pytest.mark.parametrize("together", [0, 2**20])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_image_maps_are_the_weights_of_the_conditional_pass(
    model, guidance_scale, together, monkeypatch
):
    """Against diffusers' `get_attention_scores`, whether weights are computed at once or later."""
    monkeypatch.setattr(unet_attention, "TOGETHER", together)
    name = "up_blocks.1.attentions.0.transformer_blocks.0.attn2.processor"
    options = dict(seed=5, num_inference_steps=3, guidance_scale=guidance_scale, output_type="pt")
    prompts = ["a red circle", "a blue square"]
    plain = model.dream(prompts, **options)
    before = model.decoder.unet.attn_processors
    with probe.watch_image(model) as maps:
        watched = model.dream(prompts, **options)
    with probe.watch_image(model, steps=True, heads=True) as kept:
        model.dream(prompts, **options)
    for one, other in zip(plain, watched):
        assert torch.equal(one, other)
    textbook = TextbookProcessor()
    model.decoder.unet.set_attn_processor(before | {name: textbook})
    model.dream(prompts, **options)
    model.decoder.unet.set_attn_processor(before)
    rows = slice(2, 4) if guidance_scale > 1 else slice(0, 2)  # the null condition comes first
    expected = rearrange(
        torch.stack([weights[rows] for weights in textbook.weights]),
        "steps batch heads (height width) queries -> steps batch heads queries height width",
        height=8,
    )
    torch.testing.assert_close(kept.layers[name], expected, atol=1e-5, rtol=0)
    mean = expected.mean(dim=(0, 2))
    torch.testing.assert_close(maps.layers[name][0, :, 0], mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(maps.mean(1).sum(dim=0), torch.ones(8, 8))


@torch.no_grad()
def test_a_masked_cross_attention_is_refused(model):
    latents = torch.randn(1, model.decoder.unet.config.in_channels, 8, 8)
    condition = torch.randn(1, 3, model.decoder.unet.config.cross_attention_dim)
    mask = torch.tensor([[True, True, False]])
    with pytest.raises(ValueError, match="masked cross-attention"), probe.watch_image(model):
        model.decoder.unet(latents, 5, condition, encoder_attention_mask=mask)


def test_a_recorded_unet_gives_the_same_and_is_restored_after_an_exception(model):
    before = model.decoder.unet.attn_processors
    with pytest.raises(ZeroDivisionError), probe.watch_image(model):
        raise ZeroDivisionError
    assert model.decoder.unet.attn_processors == before


def test_steps_and_heads_are_kept_on_request_and_average_to_what_is_kept_without(model):
    options = dict(seed=1, num_inference_steps=3, output_type="pt")
    with probe.watch_image(model) as averaged:
        model.dream(["a red circle", "a blue square"], **options)
    with probe.watch_image(model, steps=True, heads=True) as kept:
        model.dream(["a red circle", "a blue square"], **options)
    assert (averaged.steps, kept.steps) == (1, 3)
    for name, maps in kept.layers.items():
        assert maps.shape[:4] == (3, 2, 4, 16)
        torch.testing.assert_close(maps.mean(dim=(0, 2)), averaged.layers[name][0, :, 0])
        torch.testing.assert_close(maps.sum(dim=3), torch.ones_like(maps[:, :, :, 0]))
    torch.testing.assert_close(kept.mean(1), averaged.mean(1))
    torch.testing.assert_close(
        torch.stack([kept.mean(1, step=step) for step in range(3)]).mean(dim=0), kept.mean(1)
    )
    finest = "up_blocks.1.attentions.0.transformer_blocks.0.attn2.processor"
    torch.testing.assert_close(
        kept.mean(0, step=2, layer=finest, head=3), kept.layers[finest][2, 0, 3]
    )
    for wrong, message in (
        ({"step": 3}, "step 3 was asked for; 3 were kept"),
        ({"head": 4}, "head 4 .* 4 were kept"),
        ({"picture": 2}, "picture 2 .* 2 were kept"),
        ({"layer": "attic"}, "'attic' was not recorded"),
    ):
        with pytest.raises(ValueError, match=message):
            kept.mean(**wrong)


def test_a_recorder_within_a_recorder_sees_what_the_outer_one_sees(model):
    with probe.watch_image(model) as outer, probe.watch_image(model, steps=True) as inner:
        model.dream("a red circle", num_inference_steps=2)
    torch.testing.assert_close(outer.mean(), inner.mean())


def test_a_foreign_processor_is_refused_and_stays(model):
    class Foreign:
        def __call__(self, attn, hidden_states, *_, **__):
            return hidden_states

    before = model.decoder.unet.attn_processors
    name = next(name for name in before if ".attn2." in name)
    foreign = Foreign()
    model.decoder.unet.set_attn_processor(before | {name: foreign})
    with pytest.raises(ValueError, match="a layer has a Foreign"), probe.watch_image(model):
        pass
    assert model.decoder.unet.attn_processors[name] is foreign
    model.decoder.unet.set_attn_processor(before)


def test_batches_of_two_sizes_in_one_block_are_an_error(model):
    with pytest.raises(RuntimeError, match="1 were painted, now 2"), probe.watch_image(model):
        model.dream("a red circle", num_inference_steps=1)
        model.dream(["a red circle", "a blue square"], num_inference_steps=1)


@torch.no_grad()
def test_latents_of_two_sizes_in_one_block_are_an_error(model):
    """Also if both have as many cells: 8 x 12 and 12 x 8."""
    condition = torch.randn(1, 5, model.decoder.unet.config.cross_attention_dim)
    for size in ((12, 8), (8, 8)):
        with pytest.raises(RuntimeError, match="8 x 12 cells and 5 queries, now"):
            with probe.watch_image(model):
                for height, width in ((8, 12), size):
                    latents = torch.randn(1, model.decoder.latent_shape[0], height, width)
                    model.decoder.predict(latents, torch.tensor([500]), condition)


def test_two_hops_by_hand():
    trace = probe.Trace(
        torch.tensor([[[[0.2, 0.8, 0.0], [0.5, 0.0, 0.5]]]]), ["<s>", "red", "circle"]
    )  # two queries, three inputs
    maps = probe.ImageMaps(
        {"layer": torch.tensor([[[[[[1.0, 0.25]], [[0.0, 0.75]]]]]])}
    )  # two queries, cells 1 x 2
    hops = probe.two_hop(trace, maps)
    torch.testing.assert_close(hops, torch.tensor([[[0.2, 0.425]], [[0.8, 0.2]], [[0.0, 0.375]]]))
    with pytest.raises(ValueError, match="trace has 2 queries, the maps have 3"):
        probe.two_hop(trace, probe.ImageMaps({"layer": torch.rand(1, 1, 1, 3, 1, 2)}))


def test_evenness_is_measured_against_what_each_query_can_see():
    inputs = ["<s>", "star", "<dream_start>", 0, 1]
    weights = torch.tensor(
        [
            [
                [[0.25, 0.25, 0.25, 0.25, 0], [0.2, 0.2, 0.2, 0.2, 0.2]],  # evenly
                [[1, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0]],
            ]
        ]
    )
    trace = probe.Trace(weights, inputs)
    assert trace.visible.tolist() == [4, 5]
    torch.testing.assert_close(trace.uniform(), weights[0, 0])
    two_of_five = math.log(2) / math.log(5)
    torch.testing.assert_close(trace.evenness(), torch.tensor([[[1, 1], [0, two_of_five]]]))


def test_a_trace_without_its_start_by_hand():
    inputs = ["<s>", "star", 0, 1]
    weights = torch.tensor(
        [
            [[[0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25]], [[0.9, 0, 0.1, 0], [0.4, 0.6, 0, 0]]],
        ]
    )
    whole = probe.Trace(weights, inputs)
    rest = whole.without_start()
    assert rest.inputs == ["star", 0, 1] and rest.without_start() is rest
    torch.testing.assert_close(rest.start, torch.tensor([[[0.5, 0.25], [0.9, 0.4]]]))
    torch.testing.assert_close(rest.weights.sum(dim=-1) + rest.start, torch.ones(1, 2, 2))
    # The second head leaves 0.9 of the first query on <s>, and counts for 0.1 of 0.6 in the mean.
    expected = torch.tensor([[5 / 6, 1 / 6, 0], [0.85 / 1.35, 0.25 / 1.35, 0.25 / 1.35]])
    torch.testing.assert_close(rest.mean(), expected)
    torch.testing.assert_close(rest.mean(head=1)[0], torch.tensor([0.0, 1.0, 0.0]))
    assert rest.visible.tolist() == [2, 3]
    torch.testing.assert_close(rest.uniform()[1], torch.full((3,), 1 / 3))
    torch.testing.assert_close(rest.evenness()[0, :, 1], torch.tensor([1.0, 0.0]))
    assert whole.start is None and whole.weights.shape[-1] == 4  # the trace itself stays


def test_the_same_calls_run_on_the_official_layout():
    """Other sizes, a document with a picture, with and without guidance."""
    official = tiny_official()
    prompt = minidream.Document([Image.new("RGB", (40, 32), "red"), "the same but green"])
    trace, rolled = (
        probe.dream_attention(official, prompt, rollout=rollout) for rollout in (False, True)
    )
    layers, heads = official.llm.config.num_hidden_layers, official.llm.config.num_attention_heads
    assert trace.weights.shape == (
        layers,
        heads,
        official.queries,
        len(trace.inputs),
    ) and rolled.weights.shape[:2] == (1, 1)
    for scale in (1.0, 3.0):
        with probe.watch_image(official, steps=True) as maps:
            official.dream([prompt, "a blue square"], num_inference_steps=2, guidance_scale=scale)
        height, width = official.decoder.latent_shape[1:]
        for seen in (trace, rolled):
            hops = probe.two_hop(seen, maps, picture=0)
            assert hops.shape == (len(seen.inputs), height, width)
            torch.testing.assert_close(hops.sum(dim=0), torch.ones(height, width))
    states = probe.query_stream(official, ["a", "b", "a b", "b a"] * 3)
    result = probe.linear_probes(states, [True, False] * 6, held_out=4)
    assert result.accuracy.shape == (layers, official.queries)


@torch.no_grad()
def test_latents_need_not_be_square(model):
    """The grid of each layer comes from the pass itself; it is not guessed from the cell count."""
    latents, condition = (
        torch.randn(3, model.decoder.latent_shape[0], 8, 12),
        torch.randn(3, 5, model.decoder.unet.config.cross_attention_dim),
    )
    with probe.watch_image(model) as maps:
        model.decoder.predict(latents, torch.tensor([500] * 3), condition)
    assert {maps_.shape[-2:] for maps_ in maps.layers.values()} == {(8, 12), (4, 6)}
    assert maps.mean(2).shape == (5, 8, 12)
    torch.testing.assert_close(maps.mean(2).sum(dim=0), torch.ones(8, 12))
