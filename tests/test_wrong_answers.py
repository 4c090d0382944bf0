"""Plausible wrong answers to the exercises, and what the checker says about each.

They were written as a student would write them, before looking at which mistakes are known. None
may pass, and nearly all have to get a sentence that says what is wrong.
"""

import math
import re

import pytest
import torch
from einops import einsum, rearrange
from torch.nn import functional as F

from minidream.course.exercises import feedback
from minidream.course.references import FILES, exercises_of, find
from minidream.documents import IGNORED
from minidream.studies.intervals import student_quantile
from minidream.studies.query_evaluation import words_of

TABLE = []  # (number, wrong answer, what the sentence must say)
UNEXPLAINED = "cases differ"


def wrong(number, sentence):
    """Puts a wrong answer into the table."""

    def add(answer):
        TABLE.append((number, answer, sentence))
        return answer

    return add


# --------------------------------------------------------------------------------------------------
# 00


@wrong("00.1", "sum over the queries.*Take the mean")
def added_over_queries(weights):
    return weights.mean(dim=(0, 1)).sum(dim=0)


@wrong("00.1", "keep the inputs")
def averaged_over_inputs(weights):
    return weights.mean(dim=3).mean(dim=(0, 1))


# --------------------------------------------------------------------------------------------------
# 01


@wrong("01.1", "except where two values are equal")
def larger_instead_of_larger_or_equal(first, second):
    across, down = first.x - second.x, first.y - second.y
    if abs(across) > abs(down):
        return "left of" if across < 0 else "right of"
    return "above" if down < 0 else "below"


@wrong("01.1", "'left of' and 'right of' are exchanged")
def sides_exchanged(first, second):
    across, down = first.x - second.x, first.y - second.y
    if abs(across) >= abs(down):
        return "right of" if across < 0 else "left of"
    return "above" if down < 0 else "below"


@wrong("01.2", "everything is 1 too small")
def no_end(words, pictures, queries, patches):
    return 1 + words + pictures * (queries + patches + 4)


@wrong("01.2", "2 \\* `pictures` is missing")
def shared_markers(words, pictures, queries, patches):
    return 2 + words + pictures * (queries + patches + 2)


def laid_out(document, tokenizer, queries, patches, painted_first=True, end_learned=False):
    special = tokenizer.special
    ids, labels, index = [special.bos], [IGNORED], 0
    for item in document.items:
        if isinstance(item, str):
            ids = ids + tokenizer.encode(item)
            labels = labels + tokenizer.encode(item)
            continue
        read = [special.im_start] + [special.im_patch] * patches + [special.im_end]
        paint, paint_labels = [], []
        if index in document.targets:
            paint = [special.dream_start] + [special.im_patch] * queries + [special.dream_end]
            paint_labels = [special.dream_start] + [IGNORED] * queries
            paint_labels += [special.dream_end if end_learned else IGNORED]
        read_labels = [IGNORED] * len(read)
        ids = ids + (paint + read if painted_first else read + paint)
        labels = labels + (
            paint_labels + read_labels if painted_first else read_labels + paint_labels
        )
        index += 1
    return ids + [special.eos], labels + [special.eos]


@wrong("01.3", "a picture is painted before it is read")
def read_before_painted(*case):
    return laid_out(*case, painted_first=False)


@wrong("01.3", "no label should be at `<dream_end>`")
def dream_end_learned(*case):
    return laid_out(*case, end_learned=True)


@wrong("01.3", "there should be 1 of `<s>`, and there are 0")
def no_start(*case):
    ids, labels = laid_out(*case)
    return ids[1:], labels[1:]


# --------------------------------------------------------------------------------------------------
# 02


def scores_of(query, key, hidden_from=1):
    scores = query @ key.T / query.shape[1] ** 0.5
    ahead = torch.ones_like(scores).triu(hidden_from + len(key) - len(query)).bool()
    return scores.masked_fill(ahead, -torch.inf)


@wrong("02.1", "along the axis `tokens` .* should along the axis `inputs`")
def softmax_over_columns(query, key):
    return scores_of(query, key).softmax(dim=0)


@wrong("02.1", "the causal mask is missing")
def no_mask(query, key):
    return (query @ key.T / query.shape[1] ** 0.5).softmax(dim=-1)


@wrong("02.1", "axes `tokens` and `inputs` are exchanged")
def transposed_weights(query, key):
    return scores_of(query, key).softmax(dim=-1).T


@wrong("02.1", "not defined \\(nan\\)")
def hidden_from_itself(query, key):
    return scores_of(query, key, hidden_from=0).softmax(dim=-1)


@wrong("02.2", "1/sqrt\\(6\\) of what it should be")
def divided_by_the_root(query, key, distance):
    angles = distance * 100.0 ** (-torch.arange(0, len(query), 2) / len(query))
    x, y = query.chunk(2)
    rotated = [x * angles.cos() - y * angles.sin(), y * angles.cos() + x * angles.sin()]
    return torch.cat(rotated) @ key / len(query) ** 0.5


@wrong("02.2", "not with its neighbour")
def interleaved_pairs(query, key, distance):
    angles = distance * 100.0 ** (-torch.arange(0, len(query), 2) / len(query))
    x, y = query[0::2], query[1::2]
    rotated = [x * angles.cos() - y * angles.sin(), y * angles.cos() + x * angles.sin()]
    return torch.stack(rotated, dim=-1).flatten() @ key


@wrong("02.3", "everything is 2 times what it should be")
def in_bytes(layers, heads, shared_heads, head_dim, tokens):
    return 2 * 2 * layers * shared_heads * head_dim * tokens


@wrong("02.4", "compared with its own token")
def loss_at_the_own_token(logits, labels):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)


@wrong("02.4", "positions without a label count as 0")
def padding_counted(logits, labels):
    flat, following = logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    return F.cross_entropy(flat, following, ignore_index=IGNORED, reduction="none").mean()


@wrong("02.4", "wrong sign")
def log_likelihood_itself(logits, labels):
    flat, following = logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    return -F.cross_entropy(flat, following, ignore_index=IGNORED)


@wrong("02.4", "take the logarithm of every probability first")
def logarithm_of_the_mean(logits, labels):
    following = labels[:, 1:]
    learned = following != IGNORED
    probabilities = logits[:, :-1].softmax(dim=-1)[learned]
    return -probabilities[torch.arange(int(learned.sum())), following[learned]].mean().log()


# --------------------------------------------------------------------------------------------------
# 03


def as_pictures(patches, rows, pattern):
    size = round((patches.shape[-1] / 3) ** 0.5)
    pattern = f"batch (rows columns) (rgb high wide) -> {pattern}"
    return rearrange(patches, pattern, rows=rows, rgb=3, high=size)


@wrong("03.1", "axes `height` and `width` are exchanged")
def turned_picture(patches, rows, columns):
    return as_pictures(patches, rows, "batch rgb (columns wide) (rows high)")


@wrong("03.1", "in another order: `batch`, `height`, `width`, `rgb`")
def channels_last(patches, rows, columns):
    return as_pictures(patches, rows, "batch (rows high) (columns wide) rgb")


@wrong("03.1", "in other places. Was something reshaped")
def reshaped_picture(patches, rows, columns):
    size = round((patches.shape[-1] / 3) ** 0.5)
    return patches.reshape(len(patches), 3, rows * size, columns * size)


def states_of(encoder, pictures):
    states = encoder.tower(pixel_values=pictures, output_hidden_states=True).hidden_states
    return states[encoder.select_layer]


@wrong("03.3", "along the axis `patches` everything is one position too late")
def last_patch_left_out(encoder, pictures):
    return encoder.projector(states_of(encoder, pictures)[:, :-1])


@wrong("03.3", "that is the mean over the axis `patches`")
def mean_of_patches(encoder, pictures):
    return encoder.projector(states_of(encoder, pictures)[:, 1:]).mean(dim=1)


def table_of(pictures, captions, scale, axis=-1):
    return scale * F.normalize(pictures, dim=axis) @ F.normalize(captions, dim=axis).T


@wrong("03.2", "everything is 2 times")
def both_directions_added(pictures, captions, scale):
    table = table_of(pictures, captions, scale)
    own = torch.arange(len(table))
    return F.cross_entropy(table, own) + F.cross_entropy(table.T, own)


@wrong("03.2", "normalize along its own numbers")
def normalized_along_the_batch(pictures, captions, scale):
    table = table_of(pictures, captions, scale, axis=0)
    own = torch.arange(len(table))
    return (F.cross_entropy(table, own) + F.cross_entropy(table.T, own)) / 2


@wrong("03.2", "a sum instead of a mean")
def summed_over_the_batch(pictures, captions, scale):
    table = table_of(pictures, captions, scale)
    both = table.log_softmax(dim=1).diagonal() + table.log_softmax(dim=0).diagonal()
    return -both.sum() / 2


# --------------------------------------------------------------------------------------------------
# 04


def heads_of(cells, condition, to_query, to_key, to_value, heads):
    split = "batch places (heads dim) -> batch heads places dim"
    each = (cells @ to_query.T, condition @ to_key.T, condition @ to_value.T)
    return [rearrange(states, split, heads=heads) for states in each]


@wrong("04.1", "two axes should be merged into the axis `inner`")
def heads_kept_apart(*case):
    query, key, value = heads_of(*case)
    return (query @ key.mT / query.shape[-1] ** 0.5).softmax(dim=-1) @ value


@wrong("04.1", "divide by the root of head_dim, do not multiply")
def multiplied_by_the_root(*case):
    query, key, value = heads_of(*case)
    mixed = (query @ key.mT * query.shape[-1] ** 0.5).softmax(dim=-1) @ value
    return rearrange(mixed, "batch heads cells dim -> batch cells (heads dim)")


def noised(latents, noise, timesteps, alphas_cumprod):
    share = alphas_cumprod[timesteps][:, None, None, None]
    return share.sqrt() * latents + (1 - share).sqrt() * noise


def noise_error(predict, latents, noise, timesteps, condition, null, dropped, alphas_cumprod):
    noisy = noised(latents, noise, timesteps, alphas_cumprod)
    given = torch.where(dropped[:, None, None], null, condition)
    return predict(noisy, timesteps, given) - noise


@wrong("04.2", "120 times .* a sum instead of a mean")
def sum_of_squares(*case):
    return noise_error(*case).square().sum()


@wrong("04.2", "something else each time")
def noise_of_its_own(predict, latents, noise, *others):
    return noise_error(predict, latents, torch.randn_like(latents), *others).square().mean()


@wrong("04.2", "that is the square root of")
def root_of_the_mean(*case):
    return noise_error(*case).square().mean().sqrt()


@wrong("04.2", "should not be there any more: take the mean")
def a_loss_for_each_picture(*case):
    return noise_error(*case).square().mean(dim=(1, 2, 3))


@wrong("04.2", "no condition is dropped")
def dropped_is_forgotten(predict, latents, noise, timesteps, condition, null, dropped, bars):
    noisy = noised(latents, noise, timesteps, bars)
    return F.mse_loss(predict(noisy, timesteps, condition), noise)


@wrong("04.2", "the conditions are exchanged")
def null_where_it_is_kept(predict, latents, noise, timesteps, condition, null, dropped, bars):
    given = torch.where(dropped[:, None, None], condition, null)
    return F.mse_loss(predict(noised(latents, noise, timesteps, bars), timesteps, given), noise)


@wrong("04.3", "ᾱ and 1 − ᾱ are exchanged")
def shares_exchanged(noisy, noise_pred, alpha_bar, alpha_bar_next):
    clean = (noisy - alpha_bar.sqrt() * noise_pred) / (1 - alpha_bar).sqrt()
    return alpha_bar_next.sqrt() * clean + (1 - alpha_bar_next).sqrt() * noise_pred


@wrong("04.3", "your function changes what it is given")
def step_in_place(noisy, noise_pred, alpha_bar, alpha_bar_next):
    noisy -= (1 - alpha_bar).sqrt() * noise_pred
    clean = noisy / alpha_bar.sqrt()
    return alpha_bar_next.sqrt() * clean + (1 - alpha_bar_next).sqrt() * noise_pred


@wrong("04.3", "with the roots of their shares")
def mixed_without_roots(noisy, noise_pred, share, earlier):
    clean = (noisy - (1 - share).sqrt() * noise_pred) / share.sqrt()
    return earlier * clean + (1 - earlier) * noise_pred


@wrong("04.3", "something else each time")
def fresh_noise(noisy, noise_pred, share, earlier):
    clean = (noisy - (1 - share).sqrt() * noise_pred) / share.sqrt()
    return earlier.sqrt() * clean + (1 - earlier).sqrt() * torch.randn_like(noisy)


def both_predictions(predict, noisy, timesteps, condition, null):
    twice = torch.cat([noisy, noisy]), torch.cat([timesteps, timesteps])
    return predict(*twice, torch.cat([null.expand_as(condition), condition]))


@wrong("04.4", "the two predictions are exchanged")
def interpolated_backwards(*case):
    *inputs, scale = case
    null_pred, noise_pred = both_predictions(*inputs).chunk(2)
    return scale * null_pred + (1 - scale) * noise_pred


@wrong("04.4", "Along the axis `batch` there are 4 entries instead of 2")
def both_halves_returned(*case):
    *inputs, _ = case
    return both_predictions(*inputs)


@wrong("04.4", "returns nothing. Is a `return` missing")
def no_return(*case):
    *inputs, scale = case
    null_pred, noise_pred = both_predictions(*inputs).chunk(2)
    null_pred + scale * (noise_pred - null_pred)


# --------------------------------------------------------------------------------------------------
# 05 and 06


def gathered(queries, words, blocks, llm):
    placed = words.clone()
    for row, first in blocks:
        placed[row, first : first + queries.shape[1]] = queries[0]
    hidden = llm(placed)
    states = [hidden[row, first : first + queries.shape[1]] for row, first in blocks]
    return torch.stack(states)


@wrong("05.2", "subtract the gradient")
def up_the_slope(queries, words, blocks, llm, project, predict, noisy, times, noise, rate):
    queries = queries.clone().requires_grad_()
    condition = project(gathered(queries, words, blocks, llm))
    loss = (predict(noisy, times, condition) - noise).square().mean()
    loss.backward()
    return queries.detach() + rate * queries.grad


@wrong("05.2", "predict the noise, not the noisy latents")
def reconstructs(queries, words, blocks, llm, project, predict, noisy, times, noise, rate):
    queries = queries.clone().requires_grad_()
    condition = project(gathered(queries, words, blocks, llm))
    (predict(noisy, times, condition) - noisy).square().mean().backward()
    return queries.detach() - rate * queries.grad


@wrong("05.2", "stops the gradient on its way")
def detached(queries, words, blocks, llm, project, predict, noisy, times, noise, rate):
    queries = queries.clone().requires_grad_()
    with torch.no_grad():
        condition = project(gathered(queries, words, blocks, llm))
    loss = (predict(noisy, times, condition) - noise).square().mean()
    if loss.requires_grad:
        loss.backward()
    return queries.detach()


def interval_of(values, half_width):
    mean = sum(values) / len(values)
    return mean, mean - half_width, mean + half_width


@wrong("05.3", "the squares by n - 1")
def population_deviation(values):
    deviation = torch.tensor(values).std(correction=0).item()
    factor = student_quantile(0.975, len(values) - 1)
    return interval_of(values, factor * deviation / math.sqrt(len(values)))


@wrong("05.3", "the middle is right, .* it is 2 times as wide")
def twice_as_wide(values):
    deviation = torch.tensor(values).std().item()
    factor = 2 * student_quantile(0.975, len(values) - 1)
    return interval_of(values, factor * deviation / math.sqrt(len(values)))


@wrong("05.1", "your function changes what it is given")
def placed_in_place(embeddings, patches, queries, patch_blocks, query_blocks):
    for picture, (row, first) in zip(patches, patch_blocks):
        embeddings[row, first : first + len(picture)] = picture
    for row, first in query_blocks:
        embeddings[row, first : first + len(queries)] = queries
    return embeddings


@wrong("05.1", "in one row, not in every row")
def placed_in_every_row(embeddings, patches, queries, patch_blocks, query_blocks):
    placed = embeddings.clone()
    for picture, (row, first) in zip(patches, patch_blocks):
        placed[row, first : first + len(picture)] = picture
    for _, first in query_blocks:
        placed[:, first : first + len(queries)] = queries
    return placed


def chosen_from(log_likelihood, labels):
    learned = labels[:, 1:] != -100
    chosen = labels[:, 1:][learned]
    return log_likelihood[:, :-1][learned][torch.arange(len(chosen)), chosen]


@wrong("06.2", "a sum instead of a mean")
def sum_of_losses(*case):
    return -chosen_from(*case).sum()


@wrong("06.2", "wrong sign")
def no_minus(*case):
    return chosen_from(*case).mean()


@wrong("06.2", "that is the exponential of")
def perplexity(*case):
    return (-chosen_from(*case).mean()).exp()


@wrong("06.1", "a label is missing at `<dream_start>`, `</s>`")
def only_words(ids, special):
    return [IGNORED if token in special.ids else token for token in ids]


@wrong("06.1", "no label should be at `<dream_end>`")
def end_learned(ids, special):
    never = set(special.never_sampled) - {special.dream_end}
    return [IGNORED if token in never else token for token in ids]


def decided(logits, special):
    allowed = logits.clone()
    allowed[list(special.never_sampled)] = -torch.inf
    return allowed.argmax().item()


@wrong("06.3", "in the middle of a picture nothing is sampled")
def never_forced(logits, ids, special, queries, patches):
    return decided(logits, special)


@wrong("06.3", UNEXPLAINED)
def a_query_too_few(logits, ids, special, queries, patches):
    forced = [special.im_patch] * (queries - 1) + [special.dream_end, special.im_start]
    forced += [special.im_patch] * patches + [special.im_end]
    since = ids[::-1].index(special.dream_start) if special.dream_start in ids else len(forced)
    return forced[since] if since < len(forced) else decided(logits, special)


# --------------------------------------------------------------------------------------------------
# 07 and 08


@wrong("07.1", "there should be 2 of `</s>`, and there is 1")
def one_end_for_all(turns, tokenizer):
    ids, labels = [tokenizer.bos], [IGNORED]
    for question, answer in turns:
        asked = tokenizer.encode(f"question: {question} answer:")
        reply = tokenizer.encode(answer)
        ids = ids + asked + reply
        labels = labels + [IGNORED] * len(asked) + reply
    return ids + [tokenizer.eos], labels + [tokenizer.eos]


def wilson(right, n, z=1.96):
    middle = (right + z**2 / 2) / (n + z**2)
    reach = z / (n + z**2) * math.sqrt(right * (n - right) / n + z**2 / 4)
    return middle - reach, middle + reach


@wrong("07.2", "100 times .* no percentage")
def in_percent(right, n):
    return tuple(100 * end for end in wilson(right, n))


@wrong("07.2", "it runs backwards")
def high_before_low(right, n):
    return wilson(right, n)[::-1]


def edit_scores(before, after, found):
    right = {True: [], False: []}
    for what in ("count", "size", "colour", "shape", "background"):
        should_change = words_of(before, what) != words_of(after, what)
        right[should_change].append(words_of(found, what) == words_of(after, what))
    return [(sum(right[which]), len(right[which])) for which in (True, False)]


@wrong("07.3", "the fractions are lost")
def whole_division(*facts):
    return tuple(hits // count for hits, count in edit_scores(*facts))


def gains(together, alone):
    return [together[seed] - alone[seed] for seed in sorted(together.keys() & alone.keys())]


def t_interval(values, correction=1):
    deviation = torch.tensor(values).std(correction=correction).item()
    factor = student_quantile(0.975, len(values) - 1)
    return interval_of(values, factor * deviation / math.sqrt(len(values)))


@wrong("08.1", "the difference is taken the other way round")
def alone_minus_together(together, alone):
    return t_interval(gains(alone, together))


@wrong("08.1", "the middle is right, .* divide by n - 1")
def gain_with_population_deviation(together, alone):
    return t_interval(gains(together, alone), correction=0)


@wrong("08.2", "divide by n - 1 \\(here 5 - 1\\), not by n")
def detectable_with_population_deviation(differences):
    n = len(differences)
    error = torch.tensor(differences).std(correction=0) / n**0.5
    return (student_quantile(0.975, n - 1) + student_quantile(0.8, n - 1)) * error


@wrong("07b.1", "on the right, not on the left")
def padded_before(rows):
    longest = max(len(vectors) for vectors, _ in rows)
    vectors = [F.pad(row, (0, 0, longest - len(row), 0)) for row, _ in rows]
    labels = [F.pad(row, (longest - len(row), 0), value=IGNORED) for _, row in rows]
    return torch.stack(vectors), torch.stack(labels)


@wrong("07b.1", "padding is learned as a token")
def padded_with_zeros(rows):
    vectors = torch.nn.utils.rnn.pad_sequence([row for row, _ in rows], batch_first=True)
    return vectors, torch.nn.utils.rnn.pad_sequence([row for _, row in rows], batch_first=True)


# --------------------------------------------------------------------------------------------------
# 09 and 10


@wrong("09.1", "in another order: `height`, `width`, `inputs`")
def inputs_last(cells, looked):
    return einsum(cells, looked, "queries high wide, queries inputs -> high wide inputs")


@wrong("09.1", "number 0 .* should not be there any more: take the sum")
def queries_kept(cells, looked):
    return cells[:, None] * looked[:, :, None, None]


@wrong("09.2", "a whole number was expected, such as an index, .* instead of `argmax`")
def coverage_instead_of_index(map_, masks):
    covered = masks.flatten(1)[:, map_.argmax()]
    return covered.max().item() if covered.max() > 0 else None


@wrong("09.2", "where None is expected, 0 comes")
def none_only_without_objects(map_, masks):
    return masks.flatten(1)[:, map_.argmax()].argmax().item() if masks.any() else None


@wrong("09.3", "know nothing of the prompt")
def mean_with_its_own(maps, kinds):
    rows = []
    for kind in kinds:
        rows.append(maps[[other == kind for other in kinds]].mean(dim=0))
    return torch.stack(rows)


@wrong("09.3", "words of every kind")
def mean_of_everything_else(maps, kinds):
    return torch.stack(
        [torch.cat([maps[:at], maps[at + 1 :]]).mean(dim=0) for at in range(len(maps))]
    )


@wrong("10.1", "`states` is added, and should not be")
def added_to_the_states(states, queries, values):
    after = states.clone()
    after[:, queries] += values[queries]
    return after


@wrong("10.2", "subtract the control first")
def head_without_control(effects, controls):
    means = effects.mean(dim=0)
    return divmod(means.argmax().item(), means.shape[1])


@wrong("10.2", "divide by the number of heads")
def flat_index(effects, controls):
    return 0, (effects - controls).mean(dim=0).argmax().item()


@wrong("10.3", "has to add up to 1 again")
def row_with_a_hole(weights, readers, sources):
    after = weights.clone()
    after[:, torch.tensor(readers)[:, None], torch.tensor(sources)] = 0
    return after


@wrong("10.3", "others still see them")
def column_cut(weights, readers, sources):
    after = weights.clone()
    after[:, max(sources) + 1 :, sources] = 0
    for source in sources:
        after[:, [r for r in range(source + 1, len(weights[0])) if r not in sources], source] = 0
    return after / after.sum(dim=-1, keepdim=True)


# --------------------------------------------------------------------------------------------------
# 11 and 12


@wrong("11.1", "`width` \\* `width` \\* `layers` is missing")
def three_matrices_of_attention(words, width, inner_width, layers):
    layer = 3 * width**2 + 3 * width * inner_width + 2 * width
    return 2 * words * width + layers * layer + width


def evenness(rows):
    queries, inputs = rows.shape
    seen = torch.arange(inputs - queries + 1, inputs + 1)
    return torch.special.entr(rows).sum(dim=1) / seen.log()


@wrong("11.2", "a logarithm to another base")
def other_base(rows):
    return math.log(2) * evenness(rows)


@wrong("11.2", "1 minus what it should be")
def unevenness(rows):
    return 1 - evenness(rows)


@wrong("11.2", "that is the mean over the axis `queries`")
def mean_evenness(rows):
    return evenness(rows).mean()


@wrong("12.1", "axes `out` and `in` are exchanged")
def transposed_matrix(weight, down, up):
    return (weight + up @ down).T


@wrong("12.1", UNEXPLAINED)
def times_rank(weight, down, up):
    return weight + len(down) * up @ down


@wrong("12.2", "counted twice in the denominator")
def sum_of_areas(one, other):
    width = max(0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0, min(one[3], other[3]) - max(one[1], other[1]))
    return width * height / sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))


def visibility(tokens, first, queries, diagonal=0):
    sees = torch.ones(tokens, tokens).tril(diagonal)
    sees[first : first + queries, first : first + queries] = 1
    return sees


@wrong("12.3", "True and False were expected \\(torch.bool\\), and numbers")
def ones_and_zeros(*sizes):
    return visibility(*sizes)


@wrong("12.3", "except the diagonal")
def blind_to_itself(*sizes):
    return visibility(*sizes, diagonal=-1).bool()


@wrong("12.3", "axes `positions` and `inputs` are exchanged")
def seen_by(*sizes):
    return visibility(*sizes).bool().T


@wrong("12.4", "a longer training is no fair opponent")
def whatever_they_were_trained_on(runs, first, second):
    scores = [
        {run["seed"]: run["score"] for run in runs if run["family"] == family}
        for family in (first, second)
    ]
    return t_interval(gains(*scores))


# --------------------------------------------------------------------------------------------------
# 13


@wrong("13.1", "a trial counts once, for the first step")
def whatever_went_wrong(seen, rewritten, painted):
    return {
        "seeing": seen.count(False),
        "rewriting": rewritten.count(False),
        "painting": painted.count(False),
    }


@wrong("13.1", "the last step that went wrong")
def overwritten_by_later_steps(seen, rewritten, painted):
    counts = dict.fromkeys(("seeing", "rewriting", "painting"), 0)
    for steps in zip(seen, rewritten, painted):
        failed = None
        for name, right in zip(counts, steps):
            failed = failed if right else name
        if failed:
            counts[failed] += 1
    return counts


@wrong("13.2", "two moments for each learned parameter")
def one_moment(frozen, learned):
    return 2 * frozen + 3 * 4 * learned


@wrong("13.2", "no gradient and no moments")
def everything_learns(frozen, learned):
    return 2 * frozen + 16 * learned + 4 * frozen + 8 * frozen


@pytest.mark.parametrize(
    "number, answer, sentence",
    TABLE,
    ids=[f"{number}-{each.__name__}" for number, each, _ in TABLE],
)
def test_a_wrong_answer_gets_a_sentence_that_says_what_is_wrong(number, answer, sentence):
    said = feedback(find(number), answer)
    assert said.startswith("Not yet: ")
    assert re.search(sentence, said), said
    assert (UNEXPLAINED in said) == (sentence == UNEXPLAINED), said


def test_nearly_all_wrong_answers_are_explained():
    explained = [number for number, _, sentence in TABLE if sentence != UNEXPLAINED]
    assert len(TABLE) >= 40 and len(explained) >= 0.9 * len(TABLE)
    exercises = {number for name in FILES for number in exercises_of(name)}
    assert {number for number, _, _ in TABLE} == exercises
