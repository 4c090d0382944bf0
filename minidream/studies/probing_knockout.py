"""Attention knockout: does the picture still show a word if some positions cannot see others?

As in `probe.cut`, weights of the cut edges become 0 and the others grow. Here each prompt of a
batch has edges of its own, as many as it likes.

Source: Geva et al. 2023.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from ..probe.hooks import hooks
from ..probe.positions import positions
from .probing_lab import Lab, across, joined
from .probing_pairs import Pair, counterpart
from .probing_verdicts import Verdicts, mask_of

# What is cut: (who attends, what is attended to). No position is cut off from itself.
EDGES = {
    "word to queries": ("queries", "word"),
    "rest to queries": ("queries", "rest"),  # all other words, and <dream_start>
    "queries to queries": ("queries", "queries"),
    "words to words": ("text", "text"),
    "word to words": ("text", "word"),
    "counterpart to queries": ("queries", "counterpart"),
    "counterpart to words": ("text", "counterpart"),
}
# The controls cut off the word that says the same of the other object: the differing one should
# stay. What cuts more than one word has no control of its size but itself by layer.
CONTROLS = {
    "word to queries": "counterpart to queries",
    "word to words": "counterpart to words",
}
BY_LAYER = tuple(EDGES)[:4]  # which are also cut in some layers alone


def knockout(lab: Lab) -> dict:
    """Cuts edges in all layers and, for the first prompts, up to and from each layer.

    Returns:
        For each prompt: which word differs, as in `WORDS`; the verdict "own" without a cut; "all",
        by name of edges, with the cut in all layers; and, of the first prompts, for each of
        `BY_LAYER`, "below" with one letter for each layer k >= 1 (cut below k) and "from" (cut
        from k on).
    """
    pairs, found = lab.pairs("knockout"), []
    for some, seeds, painted in lab.batches(pairs):
        found.append(knockout_batch(lab, some, seeds, painted))
    return {"prompts": len(pairs), "layers": len(lab.model.llm.layers), **joined(found)}


def knockout_batch(lab: Lab, pairs: list[Pair], seeds: list[int], painted: int) -> dict:
    """`knockout` of some prompts, the first `painted` of them by layer."""
    model, verdicts = lab.model, Verdicts(lab, pairs, seeds)
    texts, layers = verdicts.texts["own"], range(len(model.llm.layers))
    edges = edges_of(model, pairs)
    found = {
        "kinds": [pair.kind for pair in pairs],
        "mentions": [pair.mention for pair in pairs],
        "own": verdicts.own_letters,
    }
    found["all"] = {
        name: verdicts.letters(encode_cut(model, texts, each, layers))
        for name, each in edges.items()
    }

    def swept(name: str, cuts: list[range]) -> list[str]:
        """Letters of the first prompts with edges cut in some layers, by cut."""
        states = [encode_cut(model, texts, edges[name], cut)[:painted] for cut in cuts]
        return across([verdicts.letters(each) for each in states])

    found["below"] = {name: swept(name, [layers[:k] for k in layers[1:]]) for name in BY_LAYER}
    found["from"] = {name: swept(name, [layers[k:] for k in layers[1:]]) for name in BY_LAYER}
    return found


def places_of(pair: Pair, length: int, queries: int) -> dict[str, list[int]]:
    """The positions that edges begin and end at, counted from `<s>`; arguments as of `rows_of`."""
    text = list(range(1, length - queries))  # the words and <dream_start>
    word = pair.word + 1
    return {
        "word": [word],
        "counterpart": [counterpart(pair) + 1],
        "rest": [place for place in text if place != word],
        "text": text,
        "queries": list(range(length - queries, length)),
    }


def edges_of(model, pairs: list[Pair]) -> dict[str, Tensor]:
    """The edges of every cut: shape (batch, tokens, inputs), True where one is cut."""
    lengths = [len(positions(model, pair.own.text).inputs) for pair in pairs]
    tables = [places_of(pair, length, model.queries) for pair, length in zip(pairs, lengths)]
    masks = {
        name: mask_of([table[name] for table in tables], lengths, model.device)
        for name in tables[0]
    }
    itself = torch.eye(max(lengths), dtype=torch.bool, device=model.device)
    return {
        name: masks[readers][:, :, None] & masks[sources][:, None] & ~itself
        for name, (readers, sources) in EDGES.items()
    }


def encode_cut(model, texts: list, edges: Tensor, layers: Iterable[int]) -> Tensor:
    """States of prompts whose attention lacks some edges.

    Args:
        model: a DreamLLM.
        texts: the prompts, str or Document.
        edges: shape (batch, tokens, inputs), True where one is cut; prompts padded on the left.
        layers: in which layers.
    """
    cut = edges[:, None]
    touched = cut.any(dim=-1, keepdim=True)

    def without(weights: Tensor) -> Tensor:
        left = weights.masked_fill(cut, 0)
        total = left.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(left.dtype).tiny)
        return torch.where(touched, left / total, weights)

    with hooks(model, {f"llm.{layer}.pattern": without for layer in layers}):
        return model.encode(texts)
