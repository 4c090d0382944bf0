"""The exercises: references against the package or another implementation, cases, mistakes."""

import inspect
import math
import random
from dataclasses import replace

import pytest
import torch
from diffusers.models.attention_processor import Attention
from models_shared import untrained_toy
from PIL import Image
from scipy import stats
from torch.nn import functional as F
from transformers.models.clip.modeling_clip import image_text_contrastive_loss

from minidream import dream_queries
from minidream.course.differences import differs
from minidream.course.exercises import NOT_ATTEMPTED, feedback
from minidream.course.references import FILES, cross_attention, exercises_of, find
from minidream.course.references import diffusion as painting
from minidream.documents import IGNORED, Document, lay_out
from minidream.families.lora import LoRA
from minidream.families.metaqueries import BidirectionalQueries
from minidream.llm import LLM, Cache, DotProductAttention, LLMConfig, causal_mask, rotate
from minidream.llm import rotary_angles as angles_of
from minidream.probe import Trace
from minidream.studies import intervals
from minidream.studies.query_evaluation import words_of
from minidream.tokenizers import ToyTokenizer
from minidream.trainer import lessons
from minidream.vision import VisionEncoder
from minidream.weights import toy
from minidream.world import sample_story
from minidream.world.language import VOCABULARY

EXERCISES = {number: each for name in FILES for number, each in exercises_of(name).items()}
TOKENIZER = ToyTokenizer(VOCABULARY)
SPECIAL = TOKENIZER.special
every_exercise = pytest.mark.parametrize("number", EXERCISES)


# --------------------------------------------------------------------------------------------------
# All exercises


def test_numbers_count_up_in_every_notebook():
    for name in FILES:
        numbers = list(exercises_of(name))
        assert numbers == [f"{name}.{index + 1}" for index in range(len(numbers))]
    assert len(EXERCISES) >= 37 and exercises_of("14") == {}


@every_exercise
def test_the_reference_passes_and_the_stub_does_not_count(number):
    exercise = EXERCISES[number]

    def my_answer(*arguments):
        raise NotImplementedError

    assert feedback(exercise, exercise.reference).startswith("Right: ")
    assert feedback(exercise, my_answer) == NOT_ATTEMPTED


@every_exercise
def test_every_mistake_differs_and_gets_its_own_sentence(number):
    exercise = EXERCISES[number]
    assert len(exercise.mistakes) >= 2
    expected = [exercise.reference(*case) for case in exercise.cases()]
    for sentence, mistake in exercise.mistakes.items():
        wrong = [mistake(*case) for case in exercise.cases()]
        assert any(map(differs, wrong, expected)), sentence
        assert feedback(exercise, mistake) == f"Not yet: {sentence}"
        assert sentence.endswith((".", "?"))


@every_exercise
def test_no_constant_passes_and_results_have_the_axes_that_are_named(number):
    exercise = EXERCISES[number]
    expected = [exercise.reference(*case) for case in exercise.cases()]
    assert any(differs(result, expected[0]) for result in expected[1:])
    assert exercise.hint.rstrip(")").endswith((".", "?"))
    if exercise.axes:
        assert {result.dim() for result in expected} == {len(exercise.axes.split())}


@every_exercise
def test_cases_are_the_same_each_time_and_leave_random_numbers_alone(number):
    exercise, state = EXERCISES[number], torch.get_rng_state()
    one, other = ([exercise.reference(*case) for case in exercise.cases()] for _ in range(2))
    assert not any(map(differs, one, other))
    assert torch.equal(torch.get_rng_state(), state)


def agrees(number, independent, cases=None):
    """Asserts that a reference gives what another function gives, on its cases or on others."""
    exercise = EXERCISES[number]
    for case in cases or exercise.cases():
        assert not differs(exercise.reference(*case), independent(*case)), case


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --------------------------------------------------------------------------------------------------
# 01 to 03


def test_sequences_are_those_of_the_package():
    red = Image.new("RGB", (8, 8), "red")

    def length(words, pictures, queries, patches):
        items = [" ".join(["star"] * words)] + [red] * pictures
        story = Document(items, targets=range(pictures))
        return len(lay_out(story, TOKENIZER, queries, patches).ids)

    agrees("01.2", length, [(23, 3, 16, 64), (1, 0, 3, 4), (0, 6, 64, 256), (5, 2, 1, 1)])
    # What notebook 01 says of the full weights, whose context has 2,048 positions.
    assert length(0, 6, 64, 256) < 2048 < length(0, 7, 64, 256)

    def layout(*case):
        found = lay_out(*case)
        return found.ids, found.labels

    agrees("01.3", layout)
    stories = [lessons.document_of(sample_story(random.Random(seed)), 16) for seed in range(5)]
    agrees("01.3", layout, [(story, TOKENIZER, 2, 5) for story in stories])


def test_attention_weights_are_those_of_the_language_model():
    def weights(query, key):
        # Each input's value is a unit vector of its own, so that the output is the weights.
        mask = causal_mask(torch.ones(1, len(key), dtype=torch.bool), len(query))
        one_head = [part[None, None] for part in (query, key, torch.eye(len(key)))]
        return DotProductAttention()(*one_head, mask)[0, 0]

    agrees("02.1", weights)


def test_scores_at_a_distance_are_those_of_two_rotated_vectors():
    def rotated(vector, position):
        angles = angles_of(torch.tensor([[position]]), len(vector), 100.0)
        return rotate(vector[None, None, None], angles.cos(), angles.sin())

    def score(query, key, distance):
        return (rotated(query, distance + 5) * rotated(key, 5)).sum()

    agrees("02.2", score)


def test_the_size_of_a_cache_is_that_of_a_real_one():
    def numbers_kept(layers, heads, shared_heads, head_dim, tokens):
        cache, width = Cache(), heads * head_dim
        with torch.device("meta"):  # where tensors take no memory
            small = LLM(LLMConfig(8, width, 8, layers, heads, shared_heads))
            small(torch.zeros(1, tokens, width), cache=cache)
        return sum(tensor.numel() for pair in cache.layers for tensor in pair)

    agrees("02.3", numbers_kept)


def test_the_language_loss_is_the_cross_entropy_with_the_next_token():
    def loss(logits, labels):
        flat = logits[:, :-1].flatten(0, 1)
        return F.cross_entropy(flat, labels[:, 1:].flatten(), ignore_index=IGNORED)

    agrees("02.4", loss)


def test_patches_are_folded_as_torch_folds_them():
    def fold(patches, rows, columns):
        size = int((patches.shape[-1] / 3) ** 0.5)
        return F.fold(patches.mT, (rows * size, columns * size), size, stride=size)

    agrees("03.1", fold)


def test_pictures_are_encoded_as_the_vision_encoder_does():
    agrees("03.3", VisionEncoder.forward)


def test_the_contrastive_loss_is_that_of_clip():
    def loss(pictures, captions, scale):
        one, other = (each / each.norm(dim=-1, keepdim=True) for each in (pictures, captions))
        return image_text_contrastive_loss(other @ one.T * scale)

    agrees("03.2", loss)
    # By hand: two pictures whose captions are at right angles to each other's.
    eye = torch.eye(2)
    assert find("03.2").reference(3 * eye, 7 * eye, 1.0).item() == pytest.approx(
        math.log(1 + math.exp(-1))
    )


# --------------------------------------------------------------------------------------------------
# 04


def scheduler_at(share):
    """diffusers' scheduler, in which timestep 10 keeps this share of the latents, and 0 another."""
    scheduler = toy.new_scheduler()
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.clone()
    scheduler.alphas_cumprod[10] = share
    return scheduler


def test_a_ddim_step_is_that_of_diffusers():
    def step(noisy, noise_pred, alpha_bar, alpha_bar_next):
        scheduler = scheduler_at(alpha_bar)
        scheduler.num_inference_steps = 100  # so that a step goes from 10 to 0
        scheduler.alphas_cumprod[0] = alpha_bar_next
        return scheduler.step(noise_pred, 10, noisy, eta=0.0).prev_sample

    agrees("04.3", step)


def test_cross_attention_is_that_of_diffusers():
    def attention(cells, condition, to_query, to_key, to_value, heads):
        inner, dim = to_query.shape
        module = Attention(dim, condition.shape[-1], heads=heads, dim_head=inner // heads)
        weights = {"to_q": to_query, "to_k": to_key, "to_v": to_value}
        for name, weight in weights.items():
            getattr(module, name).weight.data = weight
        module.to_out = torch.nn.ModuleList([torch.nn.Identity(), torch.nn.Identity()])
        return module(cells, encoder_hidden_states=condition)

    agrees("04.1", attention)


def test_one_thing_changed_is_nothing_changed_without_a_change():
    agrees("04.1", cross_attention.attended)
    agrees("04.2", painting.loss_with())
    agrees("04.3", painting.step_with())
    agrees("04.4", painting.guided_by(torch.lerp))


def test_the_training_loss_is_that_of_the_decoder():
    decoder = untrained_toy().decoder
    decoder.config = replace(decoder.config, snr_gamma=None)
    dim = decoder.unet.config.cross_attention_dim
    latents, condition, null = drawn(3, *decoder.latent_shape), drawn(3, 4, dim), drawn(1, 4, dim)
    draw = torch.Generator().manual_seed(5)
    noise = torch.randn(latents.shape, generator=draw)
    timesteps = torch.randint(1000, (3,), generator=draw)
    batch = latents, noise, timesteps, condition, null
    dropped, alphas_cumprod = torch.tensor([False, True, False]), decoder.scheduler.alphas_cumprod
    ours = painting.training_loss(decoder.predict, *batch, dropped, alphas_cumprod)
    given = torch.cat([condition[:1], null, condition[2:]])
    theirs = decoder.loss(latents, given, torch.Generator().manual_seed(5))
    torch.testing.assert_close(ours, theirs)


def test_guided_predictions_are_those_of_the_sampler():
    decoder = untrained_toy().decoder
    latents = drawn(2, *decoder.latent_shape)
    condition, null = drawn(3, 4, decoder.unet.config.cross_attention_dim).split([2, 1])
    seen = []
    hook = decoder.denoising_step.register_forward_pre_hook(
        lambda module, inputs: seen.append((inputs[1], inputs[2]))
    )
    for scale in (4.0, 1.0):
        decoder.sample(condition, null.expand_as(condition), latents, 1, scale)
        theirs, timestep = seen.pop()
        ours = painting.guided_prediction(
            decoder.predict, latents, timestep.expand(2), condition, null, scale
        )
        torch.testing.assert_close(ours, theirs)
    hook.remove()


# --------------------------------------------------------------------------------------------------
# 05 and 06


def test_vectors_are_placed_as_the_model_does():
    def insert_twice(embeddings, patches, queries, patch_blocks, query_blocks):
        placed = dream_queries.insert(embeddings, queries[None], query_blocks)
        return dream_queries.insert(placed, patches, patch_blocks)

    agrees("05.1", insert_twice)


def test_a_step_of_stage_one_is_torchs_gradient_descent():
    def step(queries, words, blocks, llm, project, predict, noisy, timesteps, noise, rate):
        learned = torch.nn.Parameter(queries)
        optimizer = torch.optim.SGD([learned], lr=rate)
        states = dream_queries.gather(
            llm(dream_queries.insert(words, learned, blocks)), learned.shape[1], blocks
        )
        F.mse_loss(predict(noisy, timesteps, project(states)), noise).backward()
        optimizer.step()
        return learned.detach()

    agrees("05.2", step)


def test_the_language_loss_is_torchs_cross_entropy():
    def loss(log_likelihood, labels):
        scores = log_likelihood[:, :-1].flatten(0, 1)
        return F.cross_entropy(scores, labels[:, 1:].flatten(), ignore_index=IGNORED)

    agrees("06.2", loss)


def story_layouts():
    """Layouts of drawn stories."""
    for seed in range(6):
        story = lessons.document_of(sample_story(random.Random(seed)), 16)
        yield lay_out(story, TOKENIZER, 3, 4)


def test_the_labels_of_a_story_are_those_of_its_layout():
    for layout in story_layouts():
        assert find("06.1").reference(layout.ids, SPECIAL) == layout.labels
        # The exercise's own stories are made without a layout.
    for ids, special in find("06.1").cases():
        assert ids[0] == special.bos and ids[-1] == special.eos
        assert ids.count(special.dream_start) == ids.count(special.im_end)


def test_what_is_no_target_of_the_loss_is_forced_and_the_rest_is_decided():
    next_token = find("06.3").reference
    for layout in story_layouts():
        for position in range(1, len(layout.ids)):
            before, follows = layout.ids[:position], layout.ids[position]
            decided = layout.labels[position] != IGNORED
            wanted = follows if decided else TOKENIZER.ids["star"]
            logits = torch.zeros(len(TOKENIZER))
            logits[wanted] = 1.0
            logits[list(SPECIAL.never_sampled)] = 2.0
            assert next_token(logits, before, SPECIAL, 3, 4) == follows


# --------------------------------------------------------------------------------------------------
# 07 to 12


def test_conversations_are_those_of_training():
    model = untrained_toy()

    def dialogue(turns, tokenizer):
        (question, reply), *more = turns
        row, _ = lessons.dialogue(model, [question], reply, more)
        return row.ids, row.labels

    agrees("07.1", dialogue)


def test_intervals_are_those_of_scipy():
    def t_interval(values):
        low, high = stats.ttest_1samp(values, 0).confidence_interval()
        # Student's factor has three decimals here, as in printed tables.
        return pytest.approx((sum(values) / len(values), low, high), rel=2e-3, abs=1e-4)

    def by_seed(together, alone):
        return [together[seed] - alone[seed] for seed in together.keys() & alone.keys()]

    for number, values in (("05.3", list), ("08.1", by_seed), ("12.4", fair_differences)):
        for case in EXERCISES[number].cases():
            assert EXERCISES[number].reference(*case) == t_interval(values(*case))
    for right, n in EXERCISES["07.2"].cases():
        theirs = stats.binomtest(right, n).proportion_ci(method="wilson")
        assert EXERCISES["07.2"].reference(right, n) == pytest.approx(tuple(theirs), abs=1e-4)
    agrees("08.2", intervals.detectable)


def fair_differences(runs, first, second):
    """The differences by nested loops over the runs."""
    differences = []
    for one in runs:
        for other in runs:
            alike = (one["seed"], one["samples"]) == (other["seed"], other["samples"])
            if alike and one["family"] == first and other["family"] == second:
                differences.append(one["score"] - other["score"])
    return differences


def test_the_scores_of_an_edit_by_hand():
    before = ("black", None, (("large", "yellow", "star"),))
    after = ("black", None, (("large", "blue", "ring"),))
    found = ("gray", None, (("large", "blue", "star"),))
    # Of colour and shape, the colour is right; of count, size and background, the last is not.
    assert find("07.3").reference(before, after, found) == (1 / 2, 2 / 3)
    assert words_of(after, "shape") == ["ring"]


def test_maps_and_ranks_are_those_of_the_probes():
    agrees("09.1", lambda cells, looked: (looked.T @ cells.flatten(1)).view(-1, *cells.shape[1:]))
    agrees("11.2", lambda rows: Trace(rows[None, None], [*range(rows.shape[1])]).evenness()[0, 0])


def test_parameters_are_those_of_a_language_model():
    def count(words, width, inner_width, layers):
        with torch.device("meta"):
            llm = LLM(LLMConfig(words, width, inner_width, layers, 2, 2))
        return sum(parameter.numel() for parameter in llm.parameters())

    agrees("11.1", count)


def test_merged_updates_and_masks_are_those_of_the_families():
    def merged(weight, down, up):
        update = LoRA(torch.nn.Linear(*weight.T.shape, bias=False), rank=len(down))
        matrices = {"linear.weight": weight, "down.weight": down, "up.weight": up}
        update.load_state_dict(matrices)
        return update.merged().weight.detach()

    def mask(tokens, first, queries):
        layer = BidirectionalQueries(lambda query, key, value, mask: mask)
        layer.blocks, layer.queries = [(0, first)], queries
        row = torch.zeros(1, 1, tokens, 1)
        return layer(row, row, row, None)[0, 0]

    agrees("12.1", merged)
    agrees("12.3", mask)


def test_references_are_plain_functions_whose_source_can_be_the_solution():
    for number, exercise in EXERCISES.items():
        assert inspect.isfunction(exercise.reference), number
        assert inspect.getsource(exercise.reference).startswith("def "), number
