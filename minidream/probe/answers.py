"""Attribution of an answer: how much each word of a user turn contributes, with captum."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import dream_queries as dreams
from ..documents import collate, turn_layout
from .attribution import Attribution
from .positions import labels_of


@dataclass
class Logits:
    """Scores of the next token, shape (batch, tokens, vocabulary), under the name captum reads."""

    logits: Tensor


class AnswerModel(nn.Module):
    """A DreamLLM after a user turn, in the form that captum expects: token ids in, logits out.

    Args:
        model: a DreamLLM.
        turn: as in `DreamLLM.chat`.
    """

    def __init__(self, model, turn):
        super().__init__()
        self.model, (self.layout, self.images) = model, turn_layout(model, turn)
        self.device = model.device

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Logits:
        """Logits for the turn's ids and as many ids of an answer as there are: (batch, tokens)."""
        batch = collate([self.layout], self.model.tokenizer.special.pad, device=self.device)
        embeddings = self.model.llm.embed_tokens(input_ids)
        if self.images:
            patches = self.model.vision(self.model.vision.pixels(self.images))
            blocks = [(row, first) for row in range(len(input_ids)) for _, first in batch.patches]
            embeddings = dreams.insert(embeddings, patches.repeat(len(input_ids), 1, 1), blocks)
        return Logits(self.model.llm.logits(self.model.llm(embeddings)))


class TurnTokenizer:
    """The tokenizer that captum asks for, when the turn is laid out already.

    The ids of its text are those of the turn, whichever text is given.

    Args:
        model: a DreamLLM.
        ids: of the turn.
    """

    def __init__(self, model, ids: list[int]):
        self.tokenizer, self.ids = model.tokenizer, ids

    def __call__(
        self, text: str, return_offsets_mapping: bool, add_special_tokens: bool
    ) -> dict[str, list]:
        """A text's ids, and where each of them begins and ends in it: captum cuts the answer so."""
        ids, offsets, end = self.tokenizer.encode(text), [], 0
        for token in ids:
            word = self.tokenizer.decode([token]).strip()
            start = max(end, text.find(word, end))
            end = start + len(word)
            offsets.append((start, end))
        return {"input_ids": ids, "offset_mapping": offsets}

    def encode(self, text: str, return_tensors: str | None = None, add_special_tokens: bool = True):
        """The turn's ids as a tensor (1, tokens) if tensors are asked for, else a text's ids."""
        return (
            torch.tensor([self.ids], device="cpu")
            if return_tensors
            else self.tokenizer.encode(text)
        )

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        """A label for each id."""
        return [self.tokenizer.label(token) for token in ids]

    def decode(self, ids) -> str:
        """The text of ids: a list, a tensor, or one number."""
        return self.tokenizer.decode(torch.as_tensor(ids, device="cpu").flatten().tolist())


@torch.inference_mode(False)
@torch.no_grad()
def answer_attribution(model, turn, answer: str) -> Attribution:
    """What each word of a user turn contributes to the log-probability of an answer.

    One word at a time is replaced by padding (feature ablation). Pictures of the turn are read, but
    their patches are not ablated.

    Args:
        model: a DreamLLM.
        turn: as in `DreamLLM.chat`.
        answer: whose log-probability is explained, for example what `chat` returned.

    Returns:
        Values in nats over all inputs of the turn, 0 at patches and special tokens.

    Raises:
        TypeError, ValueError: as `DreamLLM.chat`, and for an answer without a word.
    """
    from captum.attr import FeatureAblation, LLMAttribution, TextTokenInput

    if not model.tokenizer.encode(answer):
        raise ValueError(f"the answer {answer!r} has no word to explain")
    asked = AnswerModel(model, turn)
    ids, special = asked.layout.ids, model.tokenizer.special
    tokenizer = TurnTokenizer(model, ids)
    text = TextTokenInput("", tokenizer, baselines=special.pad, skip_tokens=list(special.ids))
    answer_ids = torch.tensor(tokenizer.encode(answer), device=model.device)
    with model.device:  # captum makes tensors on the default device, which could be any
        found = LLMAttribution(FeatureAblation(asked), tokenizer).attribute(
            text, target=answer_ids.cpu(), forward_in_tokens=False
        )
    words = [position for position, token in enumerate(ids) if token not in special.ids]
    values = torch.zeros(len(ids), dtype=torch.float32, device="cpu")
    values[words] = found.seq_attr.cpu()

    def log_probability(prefix: list[int]) -> float:
        tokens = torch.tensor([prefix + answer_ids.tolist()], device=model.device)
        scores = asked(tokens).logits[0, len(prefix) - 1 : -1].log_softmax(dim=-1)
        return scores.gather(1, answer_ids[:, None]).sum().item()

    padded = [special.pad if position in words else token for position, token in enumerate(ids)]
    labels = labels_of(asked.layout, model)
    return Attribution(values, labels, asked.images, log_probability(ids), log_probability(padded))
