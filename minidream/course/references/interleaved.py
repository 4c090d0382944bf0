"""The exercises of notebook 06: labels, the language loss, and a step of the loop."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ...documents import IGNORED
from ...tokenizers import SpecialTokens, ToyTokenizer
from ...world.language import VOCABULARY
from ..exercises import Exercise

TOKENIZER = ToyTokenizer(VOCABULARY)
SPECIAL = TOKENIZER.special

# --------------------------------------------------------------------------------------------------
# 06.1: the labels of a story


def labels_of(ids: list[int], special: SpecialTokens) -> list[int]:
    """The label of each position of a story: the id where it is learned, else -100.

    Words, `<dream_start>` and `</s>` are learned: what the model has to decide. All else follows.
    (`minidream.documents.lay_out` gives ids and labels together.)
    """
    return [IGNORED if token in special.never_sampled else token for token in ids]


def picture(queries: int, patches: int) -> list[int]:
    """The ids of a picture that is painted and then read."""
    painted = [SPECIAL.dream_start] + [SPECIAL.im_patch] * queries + [SPECIAL.dream_end]
    return painted + [SPECIAL.im_start] + [SPECIAL.im_patch] * patches + [SPECIAL.im_end]


def story(words: list[str], queries: int, patches: int) -> list[int]:
    """The ids of a story in which a picture follows each piece of text but the last."""
    ids, last = [SPECIAL.bos], len(words) - 1
    for index, text in enumerate(words):
        ids += TOKENIZER.encode(text)
        if index < last:
            ids += picture(queries, patches)
    return [*ids, SPECIAL.eos]


def stories() -> list[tuple]:
    """Ids of stories with one picture, with two, and with none."""
    return [
        (story(["a red star.", "the star turns green."], 3, 4), SPECIAL),
        (story(["a small ring.", "it turns blue.", ""], 2, 9), SPECIAL),
        (story(["a star."], 2, 4), SPECIAL),
    ]


def labels_without(*tokens: int):
    """A function that gives some tokens no label."""

    def labels(ids, special):
        return [IGNORED if label in tokens else label for label in labels_of(ids, special)]

    return labels


def labels_also_of(*tokens: int):
    """A function that gives more tokens a label."""

    def labels(ids, special):
        pairs = zip(ids, labels_of(ids, special))
        return [token if token in tokens else label for token, label in pairs]

    return labels


# --------------------------------------------------------------------------------------------------
# 06.2: the language loss


def language_loss(log_likelihood: Tensor, labels: Tensor) -> Tensor:
    """The mean over all labels of how unlikely each was one position before it, in nats.

    Args:
        log_likelihood: of the token that comes next, shape (batch, tokens, vocabulary).
        labels: of the token at each position, or -100, shape (batch, tokens).

    Returns:
        A scalar. It is a line of `DreamLLM.loss_of_layouts`.
    """
    learned = labels[:, 1:] != IGNORED
    chosen = labels[:, 1:][learned]
    return -log_likelihood[:, :-1][learned][torch.arange(len(chosen)), chosen].mean()


def scored_rows() -> list[tuple]:
    """Random scores and labels, of which some are ignored."""
    draw, cases = torch.Generator().manual_seed(0), []
    for rows, tokens, words in ((1, 5, 3), (2, 7, 4), (3, 9, 5)):
        labels = torch.randint(words, (rows, tokens), generator=draw)
        labels[0, tokens // 2 :], labels[:, 2] = IGNORED, IGNORED
        scores = torch.randn(rows, tokens, words, generator=draw)
        cases.append((scores.log_softmax(dim=-1), labels))
    return cases


def unshifted(log_likelihood: Tensor, labels: Tensor) -> Tensor:
    """Each position is to predict its own token."""
    return F.nll_loss(log_likelihood.flatten(0, 1), labels.flatten())


def shifted_back(log_likelihood: Tensor, labels: Tensor) -> Tensor:
    """Each position is to predict the token before it."""
    return language_loss(log_likelihood.flip(1), labels.flip(1))


def of_positions(log_likelihood: Tensor, labels: Tensor) -> Tensor:
    """The sum divided by the number of all positions."""
    share = (labels[:, 1:] != IGNORED).float().mean()
    return language_loss(log_likelihood, labels) * share


def of_rows(log_likelihood: Tensor, labels: Tensor) -> Tensor:
    """A mean of the means of the rows."""
    rows = zip(log_likelihood.split(1), labels.split(1))
    return torch.stack([language_loss(*row) for row in rows]).mean()


# --------------------------------------------------------------------------------------------------
# 06.3: one decision of the loop


def next_token(
    logits: Tensor, ids: list[int], special: SpecialTokens, queries: int, patches: int
) -> int:
    """The next id of a story: forced in the middle of a picture, elsewhere the likeliest allowed.

    Args:
        logits: scores of the next token, shape (vocabulary,).
        ids: everything so far.
        special: ids of the special tokens; `never_sampled` has those that are banned.
        queries, patches: positions that a painted and a read picture take.

    The loop is `minidream.generate.write`, which inserts what is forced as blocks.
    """
    forced = [special.im_patch] * queries + [special.dream_end, special.im_start]
    forced += [special.im_patch] * patches + [special.im_end]
    if special.dream_start in ids:
        since = ids[::-1].index(special.dream_start)
        if since < len(forced):
            return forced[since]
    allowed = logits.clone()
    allowed[list(special.never_sampled)] = -torch.inf
    return allowed.argmax().item()


def interrupted_stories() -> list[tuple]:
    """A story that is cut off at every position of its picture, and after it.

    The likeliest token is always a banned one; the likeliest allowed one differs.
    """
    draw, cases = torch.Generator().manual_seed(3), []
    ids = story(["a star.", "the star turns red."], 2, 3)
    for length in range(3, len(ids)):
        logits = torch.randn(len(TOKENIZER), generator=draw)
        logits[[SPECIAL.im_patch, SPECIAL.im_start, SPECIAL.bos]] += 9
        logits[SPECIAL.eos if length % 4 else SPECIAL.dream_start] += 6
        cases.append((logits, ids[:length], SPECIAL, 2, 3))
    return cases


def nothing_forced(logits: Tensor, ids: list[int], special: SpecialTokens, *sizes: int) -> int:
    """Everything is sampled."""
    return next_token(logits, [], special, *sizes)


def nothing_banned(logits: Tensor, ids: list[int], special: SpecialTokens, *sizes: int) -> int:
    """The likeliest token, whether it was ever learned or not."""
    forced = next_token(logits, ids, special, *sizes)
    return forced if forced in special.never_sampled else logits.argmax().item()


def control_banned(logits: Tensor, ids: list[int], special: SpecialTokens, *sizes: int) -> int:
    """The model can neither dream nor end."""
    allowed = logits.clone()
    allowed[[special.eos, special.dream_start]] = -torch.inf
    return next_token(allowed, ids, special, *sizes)


def end_sampled(logits: Tensor, ids: list[int], special: SpecialTokens, queries: int, _) -> int:
    """Only the queries are forced, and the picture is not read."""
    forced = next_token(logits, ids, special, queries, 0)
    since = ids[::-1].index(special.dream_start) if special.dream_start in ids else queries
    return forced if since < queries else next_token(logits, [], special, queries, 0)


def painted_only(logits: Tensor, ids: list[int], special: SpecialTokens, queries: int, _) -> int:
    """What is painted is not read."""
    if special.dream_start in ids and ids[::-1].index(special.dream_start) > queries:
        return next_token(logits, [], special, queries, 0)
    return next_token(logits, ids, special, queries, 0)


EXERCISES = {
    "06.1": Exercise(
        labels_of,
        stories,
        {
            "<dream_start> is learned: it is how the model says where a picture belongs.": (
                labels_without(SPECIAL.dream_start)
            ),
            "</s> is learned, too: else the model would never stop.": labels_without(SPECIAL.eos),
            "queries and patches are no words: what is at <im_patch> is never learned.": (
                labels_also_of(SPECIAL.im_patch)
            ),
            "<dream_end>, <im_start> and <im_end> follow by rule: there is nothing to learn.": (
                labels_also_of(SPECIAL.dream_end, SPECIAL.im_start, SPECIAL.im_end)
            ),
            "the first token is always <s>: nothing comes before it that could predict it.": (
                labels_also_of(SPECIAL.bos)
            ),
            "every position has a label here: only words, <dream_start> and </s> are learned.": (
                lambda ids, special: ids
            ),
            "do not shift the labels: the loss does that itself.": (
                lambda ids, special: [*labels_of(ids, special)[1:], IGNORED]
            ),
        },
        "Ask of each token: does the model decide it? `special` has the ids of all markers.",
        tokenizer=TOKENIZER,
    ),
    "06.2": Exercise(
        language_loss,
        scored_rows,
        {
            "the token at a position is predicted at the one before it: shift by one.": unshifted,
            "shifted the wrong way: a position predicts what comes after it, not before.": (
                shifted_back
            ),
            "divide by the number of labels, not by that of all positions.": of_positions,
            "one mean over all labels of the batch, not a mean of the rows' means: each token "
            "counts the same.": of_rows,
        },
        "`labels[:, 1:]` belongs to `log_likelihood[:, :-1]`. A mask of the places that are not "
        "-100 picks from both.",
    ),
    "06.3": Exercise(
        next_token,
        interrupted_stories,
        {
            "in the middle of a picture nothing is sampled: queries, markers and patches follow by "
            "rule.": nothing_forced,
            "markers were never learned, so their scores mean nothing: ban them before sampling.": (
                nothing_banned
            ),
            "</s> and <dream_start> are the model's own decisions: they are not banned.": (
                control_banned
            ),
            "<dream_end> is forced, too, and the reading of the picture after it.": end_sampled,
            "what was painted is read: <im_start>, the patches and <im_end> are forced.": (
                painted_only
            ),
        },
        "How many tokens have come since the last <dream_start>? If fewer than a picture takes, "
        "the next one is known. Else set the scores of `special.never_sampled` to minus infinity.",
        tokenizer=TOKENIZER,
    ),
}
