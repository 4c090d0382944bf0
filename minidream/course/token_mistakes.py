"""Mistakes in token ids and in labels, said with the names of the tokens."""

from collections import Counter

from ..documents import IGNORED
from .differences import token_name

Pairs = list[tuple[list[int], list[int]]]  # (result, expected)


def token_mistake(pairs: Pairs, tokenizer) -> str:
    """What is wrong with token ids or labels, as a sentence; "" if no sentence is known for it.

    Args:
        pairs: (result, expected) of the cases that differ, at least one.
        tokenizer: names the tokens.
    """
    finders = (moved_by_one, labels_differ, other_order, other_counts, replaced)
    return next((sentence for find in finders if (sentence := find(pairs, tokenizer))), "")


def moved_by_one(pairs: Pairs, tokenizer) -> str:
    """Whether every list is moved by one position, in either direction."""
    if any(len(result) != len(expected) or len(result) < 3 for result, expected in pairs):
        return ""
    early = all(result[:-1] == expected[1:] for result, expected in pairs)
    late = all(result[1:] == expected[:-1] for result, expected in pairs)
    if not early and not late:
        return ""
    return (
        f"everything is one position too {'early' if early else 'late'}: should something be "
        "shifted by one, or not be shifted?"
    )


def labels_differ(pairs: Pairs, tokenizer) -> str:
    """Whether lists differ only in which positions have a label."""
    positions = []
    for result, expected in pairs:
        if len(result) != len(expected):
            return ""
        positions += zip(result, expected)
    wrong = [(came, wanted) for came, wanted in positions if came != wanted]
    if any(IGNORED not in pair for pair in wrong):
        return ""
    extra = names([came for came, wanted in wrong if wanted == IGNORED], tokenizer)
    lacking = names([wanted for came, wanted in wrong if came == IGNORED], tokenizer)
    parts = []
    if extra:
        parts.append(f"no label should be at {extra}: it is never learned there")
    if lacking:
        parts.append(f"a label is missing at {lacking}: it is learned")
    return f"{'; and '.join(parts)}."


def names(tokens: list[int], tokenizer, most: int = 4) -> str:
    """Different tokens in a sentence, in the order in which they first occur."""
    different = [token_name(token, tokenizer) for token in dict.fromkeys(tokens)]
    return ", ".join(different[:most]) + (", …" if len(different) > most else "")


def other_order(pairs: Pairs, tokenizer) -> str:
    """Whether the right tokens are in another order; painting has to come before reading."""
    if any(Counter(result) != Counter(expected) for result, expected in pairs):
        return ""
    result, expected = pairs[0]
    place = next(place for place, pair in enumerate(zip(result, expected)) if pair[0] != pair[1])
    special = tokenizer.special
    if (result[place], expected[place]) == (special.im_start, special.dream_start):
        return (
            "a picture is painted before it is read: `<dream_start>` and its queries come first, "
            "then `<im_start>` and the patches."
        )
    came, wanted = (token_name(tokens[place], tokenizer) for tokens in (result, expected))
    return (
        f"the tokens are right, but their order is not: at position {place} (the first is 0), "
        f"{wanted} was expected, and {came} came."
    )


def other_counts(pairs: Pairs, tokenizer) -> str:
    """Whether a token occurs too often, or not often enough, everything else being right."""
    gaps = []
    for result, expected in pairs:
        came, wanted = Counter(result), Counter(expected)
        wrong = {token for token in came | wanted if came[token] != wanted[token]}
        if not within(*sorted((result, expected), key=len)):
            return ""
        gaps.append((wrong, came, wanted))
    wrong, came, wanted = gaps[0]
    parts = []
    for token in sorted(wrong):
        count, name = came[token], token_name(token, tokenizer)
        there = "is" if count == 1 else "are"
        parts.append(f"there should be {wanted[token]} of {name}, and there {there} {count}")
    return f"{'; '.join(parts)}."


def within(short: list[int], long: list[int]) -> bool:
    """Whether a list is a longer one with some items left out."""
    rest = iter(long)
    return len(short) < len(long) and all(item in rest for item in short)


def replaced(pairs: Pairs, tokenizer, most: int = 3) -> str:
    """Whether a few tokens are in the place of others."""
    wrong = []
    for result, expected in pairs:
        if len(result) != len(expected):
            return ""
        wrong += [pair for pair in zip(result, expected) if pair[0] != pair[1]]
    different = dict.fromkeys(wrong)
    if len(different) > most:
        return ""
    parts = [
        f"where {token_name(wanted, tokenizer)} was expected, {token_name(came, tokenizer)} came"
        for came, wanted in different
    ]
    return f"{'; '.join(parts)}."
