"""Writing: greedy answers, and the interleaved loop that writes, meets `<dream_start>`, paints, looks, and goes on.

The official repository has no interleaved inference; this is the procedure that its training layout implies (paper,
section 2.3 and figure 2). Only text, `<dream_start>` and `</s>` were ever targets in training; all else is forced.
"""

import torch
from PIL import Image
from torch import Tensor

from . import dream_queries as dreams
from .documents import Document, Layout, collate
from .images import to_pil
from .llm import Cache

# How one user turn is wrapped for `chat`: (before, after).
TEMPLATES = {
    "toy": ("question:", "answer:"),
    "vicuna_v1.1": (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: ",
        " ASSISTANT:",
    ),
}


class Reader:
    """A model in the middle of a document: what it has read is in its cache; more can be read, and the next token asked.

    Args:
        model: the DreamLLM.
    """

    def __init__(self, model):
        self.model, self.cache, self.hidden = model, Cache(), None

    def read(self, layout: Layout, images: list[Image.Image]) -> Tensor:
        """Reads tokens, patches and queries; returns the hidden states, shape (1, tokens, dim)."""
        batch = collate([layout], self.model.tokenizer.special.pad, device=self.model.device)
        self.hidden = self.model.llm(self.model.embed(batch, images), cache=self.cache)
        return self.hidden

    def next_logits(self, banned: tuple[int, ...]) -> Tensor:
        """Scores of the next token, shape (vocabulary,); minus infinity for what may not come."""
        logits = self.model.llm.logits(self.hidden[0, -1])
        logits[list(banned)] = -torch.inf
        return logits

    def room(self, tokens: int) -> bool:
        """Whether so many more tokens fit into the context."""
        return len(self.cache) + tokens <= self.model.llm.config.max_position_embeddings


def turn_layout(model, turn) -> tuple[Layout, list[Image.Image]]:
    """One user turn in the model's chat template, and its images; errors as `DreamLLM.chat`."""
    document = Document([turn] if isinstance(turn, str) else list(turn))
    if not any(not isinstance(item, str) or item.strip() for item in document.items):
        raise ValueError("a turn needs a question or a picture: it is empty")
    before, after = TEMPLATES[model.config.template]
    tokenizer, layout, text, number = model.tokenizer, Layout(), before, 0
    layout.add([tokenizer.bos], learned=False)
    for item in document.items:
        if isinstance(item, str):
            text += item if text.endswith(" ") or not text else f" {item}"
            continue
        layout.add(tokenizer.encode(text) if text else [], learned=False)
        layout.add_image(number, tokenizer.special, model.vision.patches)
        text, number = "", number + 1
    layout.add(tokenizer.encode(f"{text} {after.lstrip()}" if text else after), learned=False)
    context = model.llm.config.max_position_embeddings
    if len(layout.ids) >= context:
        raise ValueError(
            f"the turn takes {len(layout.ids)} positions; the context has {context}, and the answer needs some"
        )
    return layout, document.images


@torch.no_grad()
def answer(model, turn, max_new_tokens: int) -> str:
    """The likeliest answer, token by token; see `DreamLLM.chat`."""
    reader, special, tokens = Reader(model), model.tokenizer.special, []
    reader.read(*turn_layout(model, turn))
    while len(tokens) < max_new_tokens:
        token = reader.next_logits((*special.never_sampled, special.dream_start)).argmax().item()
        if token == special.eos:
            break
        tokens.append(token)
        if not reader.room(1):
            break
        reader.read(tokens_only([token]), [])
    return model.tokenizer.decode(tokens).strip()


def tokens_only(ids: list[int]) -> Layout:
    """A layout of tokens without pictures."""
    layout = Layout()
    layout.add(ids, learned=False)
    return layout


def choose(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> int:
    """Draws a token: softmax at a temperature, among the likeliest that together reach `top_p` (nucleus sampling)."""
    if temperature == 0:
        return logits.argmax().item()
    weights, order = (logits.cpu() / temperature).softmax(dim=-1).sort(descending=True)
    weights[weights.cumsum(dim=-1) - weights >= top_p] = 0
    return order[torch.multinomial(weights, 1, generator=generator)].item()


@torch.no_grad()
def write(
    model,
    prompt: Document,
    max_images: int,
    max_new_tokens: int,
    seed: int,
    temperature: float,
    top_p: float,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    negative_prompt=None,
) -> Document:
    """The interleaved loop; see `DreamLLM.write`."""
    if max_images < 0 or max_new_tokens < 1 or temperature < 0 or not 0 < top_p <= 1:
        raise ValueError(
            f"write needs max_images >= 0, max_new_tokens >= 1, temperature >= 0 and 0 < top_p <= 1, not "
            f"{max_images}, {max_new_tokens}, {temperature} and {top_p}"
        )
    steps, scale = model.decoder.sampling_options(num_inference_steps, guidance_scale)
    special, tokenizer = model.tokenizer.special, model.tokenizer
    model.prompt_layout(
        negative_prompt or ""
    )  # refused now if it does not fit, not at the first picture
    opening = model.prompt_layout(prompt)
    queries = (
        opening.queries.pop()
    )  # the prompt without the query block that `dream` would put at its end
    opening.ids, opening.labels = opening.ids[: queries[1] - 1], opening.labels[: queries[1] - 1]
    reader, generator = Reader(model), torch.Generator().manual_seed(seed)
    reader.read(opening, [prompt.images[number] for number, _ in opening.patches])
    items, targets, tokens = list(prompt.items), list(prompt.targets), []
    given = len(prompt.images)

    def flush() -> None:
        text = tokenizer.decode(tokens).strip()
        tokens.clear()
        if text and items and isinstance(items[-1], str):
            items[-1] = f"{items[-1].rstrip()} {text}"
        elif text:
            items.append(text)

    null = None
    for _ in range(max_new_tokens):
        token = choose(reader.next_logits(special.never_sampled), temperature, top_p, generator)
        painted = len(targets) - len(prompt.targets)
        block = 4 + model.queries + model.vision.patches
        if token == special.eos or (
            token == special.dream_start and (painted == max_images or not reader.room(block))
        ):
            break
        if token != special.dream_start:
            if not reader.room(1):
                break
            tokens.append(token)
            reader.read(tokens_only([token]), [])
            continue
        flush()
        layout = Layout()
        layout.add_dream(0, special, model.queries, learned=False)
        states = dreams.gather(reader.read(layout, []), model.queries, layout.queries)
        if null is None and scale > 1:
            null = model.decoder.projector(model.null_states(negative_prompt))
        latents = model.decoder.sample_seeded(
            model.decoder.projector(states), null, [seed + painted], steps, scale
        )
        image = to_pil(model.decoder.decode(latents))[0]
        layout = Layout()
        layout.add_image(0, special, model.vision.patches)
        reader.read(layout, [image])
        targets.append(given + painted)
        items.append(image)
    flush()
    return Document(items, targets)
