"""New words for a toy: the old ones keep their ids, their embeddings and their output rows."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..images import as_integer
from ..model import DreamLLM
from ..tokenizers import ToyTokenizer


class NewRows(nn.Module):
    """A matrix of old rows, which are fixed, above new ones, which learn: a parametrization."""

    def __init__(self, old: int):
        super().__init__()
        self.old = old

    def forward(self, old: Tensor, new: Tensor) -> Tensor:
        """The whole matrix."""
        return torch.cat([old, new])

    def right_inverse(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Old and new rows of a matrix."""
        return matrix[: self.old].clone(), matrix[self.old :].float()


def tables_of(llm: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The two modules with a row for each word: embeddings, and the output layer."""
    return llm.embed_tokens, llm.lm_head


def unknown_words(model: DreamLLM, text: str) -> set[str]:
    """The words of a text that a toy does not know; of other tokenizers, any text has pieces."""
    if not isinstance(model.tokenizer, ToyTokenizer):
        return set()
    return set(model.tokenizer.split(text)) - model.tokenizer.ids.keys()


@torch.no_grad()
def add_words(model: DreamLLM, words: tuple[str, ...], seed: int = 0) -> None:
    """Adds words to a toy's vocabulary, at its end.

    A new embedding is drawn as large as the old ones are; a new output row is their mean, so that
    a new word is as likely as an average one, and the order of all others stays.

    Args:
        model: changed in place.
        words: as the tokenizer splits text: lower case, letters and digits.
        seed: of the embeddings.

    Raises:
        TypeError: for a model whose tokenizer has pieces of words, which spell every word.
        ValueError: for a word that is known already, or is none for the tokenizer.
    """
    if not words:
        return
    tokenizer = model.tokenizer
    if not isinstance(tokenizer, ToyTokenizer):
        raise TypeError("words are added to a toy; this tokenizer spells any word from its pieces")
    if known := [word for word in words if word in tokenizer.ids]:
        raise ValueError(f"the toy knows these words already: {', '.join(known)}")
    model.tokenizer = ToyTokenizer([*tokenizer.words, *words])
    generator = torch.Generator().manual_seed(as_integer("seed", seed))
    config = model.llm.config
    for table in tables_of(model.llm):
        old = table.weight.detach()
        spoken = old[len(tokenizer) - len(tokenizer.words) : len(tokenizer)]
        if isinstance(table, nn.Embedding):
            shape = len(words), old.shape[1]
            new = torch.randn(shape, generator=generator, device="cpu", dtype=torch.float32)
            new = new.to(old) * spoken.float().std().to(old)
            table.num_embeddings += len(words)
        else:
            new = spoken.mean(dim=0, keepdim=True).expand(len(words), -1)
            table.out_features += len(words)
        # A vocabulary may be padded; its rows end where the tokenizer's ids do.
        matrix = torch.cat([old[: len(tokenizer)], new])
        table.weight = nn.Parameter(matrix, requires_grad=table.weight.requires_grad)
    model.llm.config = replace(config, vocab_size=len(model.tokenizer))


def fix_old_rows(llm: nn.Module, new: int) -> None:
    """Lets the last `new` rows of both tables learn, in float32, and no others."""
    for table in tables_of(llm):
        fixed = NewRows(len(table.weight) - new)
        # Unsafe: with new rows in float32 and old ones in less, the matrix is in float32.
        parametrize.register_parametrization(table, "weight", fixed, unsafe=True)
        table.parametrizations.weight.original0.requires_grad_(False)
        table.parametrizations.weight.original1.requires_grad_(True)


def free_rows(llm: nn.Module) -> None:
    """Undoes `fix_old_rows`, and keeps what was learned."""
    for table in tables_of(llm):
        if parametrize.is_parametrized(table):
            parametrize.remove_parametrizations(table, "weight", leave_parametrized=True)
