"""The language model is LLaMA: the numbers of transformers, and of the official tiny checkpoint."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import LlamaConfig, LlamaForCausalLM

from minidream.llm import LLM, Cache, LLMConfig, causal_mask, rotary_angles, rotate
from minidream.tokenizers import LlamaTokenizer

TINY = Path(__file__).parent / "fixtures" / "tiny-a"
VOCABULARY = 37


def both(key_value_heads):
    """Our decoder and transformers', with equal random weights: 6 heads of width 4."""
    sizes = dict(
        vocab_size=VOCABULARY,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=key_value_heads,
        max_position_embeddings=32,
        rms_norm_eps=1e-5,
        rope_theta=500.0,
    )
    torch.manual_seed(key_value_heads)
    # Large weights: with 0.02, attention would be so flat that a wrong mask could hide under 1e-5.
    theirs = LlamaForCausalLM(
        LlamaConfig(**sizes, initializer_range=0.3, attn_implementation="eager")
    ).eval()
    for parameter in theirs.parameters():
        if parameter.dim() == 1:
            torch.nn.init.uniform_(
                parameter, 0.5, 1.5
            )  # the norms' weights, which start at 1 and would not show
    ours = LLM(LLMConfig(**sizes))
    ours.load_state_dict(
        {key.removeprefix("model."): value for key, value in theirs.state_dict().items()},
        strict=True,
    )
    return ours, theirs


@pytest.fixture(params=[2, 6, 1], ids=["grouped", "full", "one key/value head"])
def pair(request):
    with torch.no_grad():
        yield both(request.param)


def assert_same_logits(ours, theirs):
    """Equal to 1e-5 of the largest logit: float32 is rounded in another order by each processor."""
    largest = theirs.abs().max()
    assert_close(ours / largest, theirs / largest, atol=1e-5, rtol=0)


def some_ids(*shape):
    return torch.randint(VOCABULARY, shape, generator=torch.Generator().manual_seed(1))


def test_equals_transformers_in_every_hidden_state_it_promises(pair):
    ours, theirs = pair
    ids = some_ids(3, 11)
    expected = theirs(ids, output_hidden_states=True)
    hidden = ours(ours.embed_tokens(ids))
    assert_close(hidden, expected.hidden_states[-1], atol=1e-5, rtol=0)
    assert_same_logits(ours.logits(hidden), expected.logits)


@pytest.mark.parametrize(
    "chunks", [[1] * 11, [4, 1, 6], [7, 4]], ids=["token by token", "4, 1, 6", "7, 4"]
)
def test_cache_changes_nothing(pair, chunks):
    ours, theirs = pair
    ids = some_ids(2, 11)
    cache, read = Cache(), []
    for part in ids.split(chunks, dim=1):
        read.append(ours(ours.embed_tokens(part), cache=cache))
    assert len(cache) == 11
    key, value = cache.layers[-1]
    assert key.shape == value.shape == (2, ours.config.num_key_value_heads, 11, 4), (
        "only the shared heads are kept"
    )
    assert_same_logits(ours.logits(torch.cat(read, dim=1)), theirs(ids).logits)


def left_padded():
    """Three prompts of 9, 4 and 1 tokens, padded on the left with token 0, and their mask."""
    ids, mask = torch.zeros(3, 9, dtype=torch.long), torch.zeros(3, 9, dtype=torch.bool)
    for row, length in enumerate((9, 4, 1)):
        ids[row, 9 - length :] = some_ids(4, 9)[row, :length]
        mask[row, 9 - length :] = True
    return ids, mask


def test_left_padding_equals_transformers_and_each_row_alone(pair):
    ours, theirs = pair
    ids, mask = left_padded()
    hidden = ours(ours.embed_tokens(ids), mask)
    positions = (mask.long().cumsum(dim=1) - 1).clamp(
        min=0
    )  # as transformers' generate counts them
    expected = theirs(ids, attention_mask=mask.long(), position_ids=positions)
    assert_same_logits(ours.logits(hidden)[mask], expected.logits[mask])
    assert hidden.isfinite().all(), (
        "padding has no NaN either, which would spread through later sums"
    )
    for row in range(3):
        alone = ours(ours.embed_tokens(ids[row][mask[row]]).unsqueeze(0))[0]
        assert_close(hidden[row][mask[row]], alone, atol=1e-5, rtol=0)


def test_a_left_padded_batch_goes_on_from_its_cache(pair):
    ours, _ = pair
    ids, mask = left_padded()
    more = some_ids(3, 5)
    cache = Cache()
    ours(ours.embed_tokens(ids), mask, cache)
    steps = [ours(ours.embed_tokens(token), cache=cache) for token in more.split(1, dim=1)]
    assert cache.mask.shape == (3, 14)
    for row in range(3):
        whole = torch.cat([ids[row][mask[row]], more[row]]).unsqueeze(0)
        alone = ours(ours.embed_tokens(whole))[0, -5:]
        assert_close(torch.cat(steps, dim=1)[row], alone, atol=1e-5, rtol=0)


def test_nothing_looks_ahead(pair):
    ours, _ = pair
    ids = some_ids(1, 10)
    changed = ids.clone()
    changed[0, 6] = (ids[0, 6] + 1) % VOCABULARY
    before, after = (ours(ours.embed_tokens(these))[0] for these in (ids, changed))
    assert_close(before[:6], after[:6], atol=0, rtol=0)
    assert (before[6:] - after[6:]).abs().amax(dim=-1).min() > 1e-3, (
        "everything from there on does look back"
    )


# --------------------------------------------------------------------------------------------------
# Worked by hand


def test_causal_mask_by_hand():
    real = torch.tensor([[True] * 5, [False, False, True, True, True]])
    mask = causal_mask(real, tokens=3)  # the last three of five inputs ask
    assert mask.shape == (2, 1, 3, 5)
    assert mask[0, 0].int().tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert mask[1, 0].int().tolist() == [[0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]
    padding = causal_mask(real, tokens=5)[1, 0, :2]
    assert padding.int().tolist() == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0]], (
        "padding looks at itself alone"
    )


def test_rotary_angles_by_hand():
    angles = rotary_angles(torch.tensor([[0, 1, 7], [2, 3, 4]]), head_dim=4, theta=100.0)
    # Two pairs: one turns by 100^0 = 1 radian per position, the other by 100^(-2/4) = 0.1.
    assert_close(
        angles, torch.tensor([[[0, 0], [1, 0.1], [7, 0.7]], [[2, 0.2], [3, 0.3], [4, 0.4]]])
    )


def test_rotate_turns_each_number_with_the_one_half_a_head_away():
    heads = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 4)
    quarter, none = math.pi / 2, 0.0
    angles = torch.tensor([[[quarter, none]]])
    turned = rotate(heads, angles.cos(), angles.sin())
    assert_close(
        turned.flatten(), torch.tensor([-3.0, 2.0, 1.0, 4.0])
    )  # (1, 3) -> (-3, 1); (2, 4) stay


def test_rotated_products_depend_on_distance_alone():
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 1, 1, 6, generator=generator) for _ in range(2))

    def score(query_position, key_position):
        turned = []
        for vector, position in ((query, query_position), (key, key_position)):
            angles = rotary_angles(torch.tensor([[position]]), 6, 50.0)
            turned.append(rotate(vector, angles.cos(), angles.sin()))
        return (turned[0] * turned[1]).sum()

    assert_close(score(9, 4), score(105, 100), atol=1e-4, rtol=0)
    assert (score(9, 4) - score(9, 5)).abs() > 1e-2


# --------------------------------------------------------------------------------------------------
# Errors name both numbers


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(hidden_size=25), "hidden_size 25 .* num_attention_heads 6"),
        (dict(num_key_value_heads=4), "num_attention_heads 6 .* num_key_value_heads 4"),
        (dict(hidden_size=18), "head_dim must be even, not 3"),
    ],
)
def test_sizes_that_do_not_fit_are_named(wrong, message):
    sizes = dict(
        vocab_size=7,
        hidden_size=24,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=6,
        num_key_value_heads=2,
    )
    with pytest.raises(ValueError, match=message):
        LLMConfig(**sizes | wrong)


def test_more_than_the_context_is_refused_at_once_and_from_the_cache():
    ours, _ = both(2)
    with pytest.raises(ValueError, match="33 tokens .* context of 32"):
        ours(torch.zeros(1, 33, 24))
    cache = Cache()
    ours(torch.zeros(1, 30, 24), cache=cache)
    with pytest.raises(ValueError, match="35 tokens .* context of 32"):
        ours(torch.zeros(1, 5, 24), cache=cache)
    assert len(cache) == 30, "a refused reading leaves nothing behind"
    ours(torch.zeros(1, 2, 24), cache=cache)


def test_initialize_is_reproducible_and_leaves_norms_alone():
    ours = both(2)[0]
    again = LLM(ours.config)
    for llm in (ours, again):
        llm.initialize(torch.Generator().manual_seed(5), std=0.3)
    assert_close(ours.lm_head.weight, again.lm_head.weight, atol=0, rtol=0)
    assert abs(ours.layers[1].mlp.gate_proj.weight.std().item() - 0.3) < 0.03
    assert (again.norm.weight == 1).all()


# --------------------------------------------------------------------------------------------------
# The official code's outputs on its tiny checkpoint


@pytest.fixture(scope="module")
def official():
    """Our decoder with the tiny official weights, and its tokenizer."""
    settings = json.loads((TINY / "checkpoint/config.json").read_bytes())
    llm = LLM(LLMConfig(**{name: settings[name] for name in LLMConfig.__dataclass_fields__}))
    weights = load_file(TINY / "checkpoint/model.safetensors")
    # A persistent buffer in the official files that stock LLaMA lacks; we recompute it.
    llm.load_state_dict(
        {
            key.removeprefix("model."): value
            for key, value in weights.items()
            if "inv_freq" not in key
        }
    )
    added = json.loads((TINY / "checkpoint/added_tokens.json").read_bytes())
    return llm.eval(), LlamaTokenizer(TINY / "checkpoint/tokenizer.model", added)


@torch.no_grad()
def test_official_text_ids_logits_states_and_attentions(official):
    llm, tokenizer = official
    golden = load_file(TINY / "golden/text.safetensors")
    prompt = json.loads((TINY / "manifest.json").read_bytes())["golden"]["text.safetensors"][
        "meta"
    ]["prompt"]
    ids = torch.tensor([[tokenizer.bos, *tokenizer.encode(prompt)]])
    assert torch.equal(ids, golden["input_ids"])

    states, attentions = [], []

    def watch_input(layer, inputs):
        states.append(inputs[0])

    def watch_attention(attend, inputs):
        query, key, _, mask = inputs
        assert mask is None  # nothing is padded: plain causal attention
        scores = query @ key.mT / query.shape[-1] ** 0.5
        ahead = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        attentions.append(scores.masked_fill(ahead, -torch.inf).softmax(dim=-1))

    hooks = [layer.register_forward_pre_hook(watch_input) for layer in llm.layers]
    hooks += [
        layer.self_attn.attend.register_forward_pre_hook(watch_attention) for layer in llm.layers
    ]
    hidden = llm(llm.embed_tokens(ids))
    for hook in hooks:
        hook.remove()
    assert_close(torch.stack([*states, hidden]), golden["hidden_states"], atol=1e-4, rtol=0)
    assert_close(torch.stack(attentions), golden["attentions"], atol=1e-4, rtol=0)
    assert_close(llm.logits(hidden), golden["logits"], atol=1e-4, rtol=0)


@torch.no_grad()
def test_official_greedy_text(official):
    llm, _ = official
    golden = load_file(TINY / "golden/generation.safetensors")
    ids, cache = golden["text.input_ids"], Cache()
    hidden, said = llm(llm.embed_tokens(ids), cache=cache), []
    for _ in range(12):
        said.append(llm.logits(hidden[:, -1]).argmax(dim=-1, keepdim=True))
        hidden = llm(llm.embed_tokens(said[-1]), cache=cache)
    assert torch.equal(torch.cat([ids, *said], dim=1), golden["text.output_ids"])
