"""What a trained model does: it paints prompts, answers turns, and writes illustrated documents.

`dream`, `chat` and `write` are the methods of `DreamLLM` with these names. The official
repository has no interleaved inference: `write` is the procedure that its training layout implies
(paper, section 2.3 and figure 2). Only text, `<dream_start>` and `</s>` were ever targets in
training, so everything else is inserted, not sampled.
"""

import torch
from PIL import Image
from torch import Tensor

from .documents import (
    THOUGHTS,
    Document,
    Layout,
    as_document,
    as_documents,
    collate,
    pictures_of,
    turn_layout,
)
from .dream_queries import check_options, gather, null_condition, paint_checked
from .images import LEAST_SEED, MOST_SEED, as_integer, as_number, as_seeds
from .llm import Cache

THOUGHT_TOKENS = 64  # the longest thought

# --------------------------------------------------------------------------------------------------
# Painting


@torch.no_grad()
def dream(
    model,
    prompts,
    seed: int | list[int] = 0,
    *,
    think: bool = False,
    return_thought: bool = False,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    negative_prompt=None,
    latents: Tensor | None = None,
    output_type: str = "pil",
    progress: bool = False,
):
    """Paints what the dream queries gather from a prompt.

    Args:
        prompts: a str or Document gives one picture; a list of them gives a list, painted as one
            batch.
        seed: of the noise. Picture i of a list has seed + i, or its own from a list of seeds, and
            equals the single call with that seed.
        think: first continue each prompt by saying, in the likeliest words, what the picture will
            show; the dream queries then see the prompt and the thought.
        return_thought: also return these words, without their opening.
        num_inference_steps, guidance_scale: None is the default; a scale is at most 10000.
        negative_prompt: str or Document to push away from; None is the empty prompt.
        latents: initial noise, N(0, 1), within ±65504, shape (batch, channels, height, width).
        output_type: "pil"; "pt", shape (3, height, width), RGB in [0, 1]; or "latent", unit scale.
        progress: show a bar.

    Returns:
        A picture, or a list of pictures. With `return_thought`, (picture, thought), or a list of
        pictures and a list of thoughts.

    Raises:
        TypeError: for a prompt that is neither str nor Document (put a bare image into a Document),
            and for an option of another type.
        ValueError: for an empty list, an unknown output type, text with a special token, a prompt
            longer than the context, a number out of range, latents of another shape or with nan, or
            `return_thought` without `think`.
    """
    documents, steps, scale = as_documents(prompts), num_inference_steps, guidance_scale
    seeds = as_seeds(seed, len(documents))
    options = check_options(model, len(seeds), steps, scale, negative_prompt, latents, output_type)
    if return_thought and not think:
        raise ValueError("return_thought=True needs think=True: nothing is thought without it")
    thoughts = []
    if think:
        opening = THOUGHTS[model.config.template]
        opened = [document.with_thought(opening) for document in documents]
        layouts = [model.open_layout(document) for document in opened]  # refuses before any work
        thoughts = [thought_after(model, *pair) for pair in zip(opened, layouts)]
        pairs = zip(documents, thoughts)
        documents = [document.with_thought(opening, thought) for document, thought in pairs]
    layouts = [model.prompt_layout(document) for document in documents]
    states = model.encode_layouts(documents, layouts)
    images = paint_checked(model, states, seeds, options, progress=progress)
    if isinstance(prompts, (list, tuple)):
        return (images, thoughts) if return_thought else images
    return (images[0], thoughts[0]) if return_thought else images[0]


# --------------------------------------------------------------------------------------------------
# Reading and writing


class Reader:
    """A model in the middle of a document: it can read on, and score the next token.

    Args:
        model: the DreamLLM.
    """

    def __init__(self, model):
        self.model, self.cache = model, Cache()
        self.hidden: Tensor | None = None  # of the last reading

    def read(self, layout: Layout, images: list[Image.Image]) -> Tensor:
        """Reads tokens, patches and queries.

        Args:
            layout: what comes after everything read before.
            images: one per block of patches.

        Returns:
            The hidden states of what was read, shape (1, tokens, dim).
        """
        batch = collate([layout], self.model.tokenizer.special.pad, device=self.model.device)
        self.hidden = self.model.llm(self.model.embed(batch, images), cache=self.cache)
        return self.hidden

    def read_token(self, token: int) -> Tensor:
        """Reads one token; returns its hidden state, shape (1, 1, dim)."""
        ids = torch.tensor([[token]], device=self.model.device)
        self.hidden = self.model.llm(self.model.llm.embed_tokens(ids), cache=self.cache)
        return self.hidden

    def next_logits(self, banned: tuple[int, ...]) -> Tensor:
        """Scores of the next token, shape (vocabulary,), minus infinity for banned tokens.

        Also banned are ids that the tokenizer does not have: some vocabularies are rounded up.
        """
        logits = self.model.llm.logits(self.hidden[0, -1])
        logits[list(banned)] = logits[len(self.model.tokenizer) :] = -torch.inf
        return logits

    @property
    def room(self) -> int:
        """How many more tokens fit into the context."""
        return self.model.llm.config.max_position_embeddings - len(self.cache)

    def likeliest(self, most: int, banned: tuple[int, ...]) -> list[int]:
        """The likeliest tokens up to `</s>` or `<dream_start>`.

        Args:
            most: the largest number of tokens.
            banned: tokens that are never chosen.
        """
        special, tokens = self.model.tokenizer.special, []
        while len(tokens) < most:
            token = self.next_logits(banned).argmax().item()
            if token in (special.eos, special.dream_start):
                break
            tokens.append(token)
            if not self.room:
                break
            self.read_token(token)
        return tokens

    def thought(self, after: int) -> list[int]:
        """The likeliest tokens of a thought.

        Args:
            after: how many tokens have to fit into the context after it.
        """
        most = min(THOUGHT_TOKENS, self.room - after)
        return self.likeliest(most, self.model.tokenizer.special.never_sampled)


def thought_after(model, opened: Document, layout: Layout) -> str:
    """How a model completes a prompt that ends with the opening of a thought.

    It leaves room in the context for `<dream_start>` and the queries.

    Args:
        opened: the prompt with the opening.
        layout: its open layout.
    """
    reader = Reader(model)
    reader.read(layout, pictures_of([opened], [layout.patches]))
    return model.tokenizer.decode(reader.thought(after=1 + model.queries)).strip()


@torch.no_grad()
def chat(model, turn, max_new_tokens: int = 128) -> str:
    """Answers one user turn with the likeliest tokens.

    Args:
        turn: a str or PIL image, a list of them in order, or a Document, whose images are read.
        max_new_tokens: the longest answer, in tokens.

    Raises:
        TypeError, ValueError: for an empty turn, items of another type, or one beyond the context.
    """
    max_new_tokens = as_integer("max_new_tokens", max_new_tokens, 1)
    reader, special = Reader(model), model.tokenizer.special
    reader.read(*turn_layout(model, turn))
    banned = (*special.never_sampled, special.dream_start)
    return model.tokenizer.decode(reader.likeliest(max_new_tokens, banned)).strip()


def choose(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> int:
    """Samples a token.

    Args:
        logits: shape (vocabulary,).
        temperature: of the softmax; 0, or almost 0, takes the likeliest token.
        top_p: sample among the likeliest tokens that together reach this probability (nucleus
            sampling, Holtzman et al. 2020).
        generator: on the CPU.
    """
    if temperature < 1e-30:  # by which no logits can be divided
        return logits.argmax().item()
    weights, order = (logits.cpu() / temperature).softmax(dim=-1).sort(descending=True)
    weights[weights.cumsum(dim=-1) - weights >= top_p] = 0
    return order[torch.multinomial(weights, 1, generator=generator)].item()


@torch.no_grad()
def write(
    model,
    prompt,
    max_images: int = 3,
    max_new_tokens: int = 200,
    seed: int = 0,
    temperature: float = 0.8,
    top_p: float = 0.95,
    *,
    think: bool = False,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    negative_prompt=None,
) -> Document:
    """Continues a document: writes, paints where it dreams, reads its own picture, and goes on.

    Args:
        prompt: str or Document to continue.
        max_images: writing stops where the model asks for one picture more.
        max_new_tokens: the largest number of sampled tokens.
        seed: of text and pictures; picture i is painted with seed + i.
        temperature: 0 always takes the likeliest token; at most 10000.
        top_p: sample among the likeliest tokens that together have this probability.
        think: before each picture, say in words what it will show; the words become text.
        num_inference_steps, guidance_scale, negative_prompt: as in `dream`.

    Returns:
        The prompt and what was added, with the painted pictures as its targets. Sampled text that
        spells a special token is escaped: see `tokenizers.escape_special`.

    Raises:
        TypeError, ValueError: as `dream`, and for other options out of range.

    An exception after the beginning, also of Ctrl-C, has the unfinished Document as `.document`.
    """
    prompt, special, tokenizer = as_document(prompt), model.tokenizer.special, model.tokenizer
    max_images = as_integer("max_images", max_images)
    max_new_tokens = as_integer("max_new_tokens", max_new_tokens)
    temperature, top_p = as_number("temperature", temperature, None, 1e4), as_number("top_p", top_p)
    if max_images < 0 or max_new_tokens < 1 or temperature < 0 or not 0 < top_p <= 1:
        raise ValueError(
            "write needs max_images >= 0, max_new_tokens >= 1, temperature >= 0 and 0 < top_p <= 1,"
            f" not {max_images}, {max_new_tokens}, {temperature} and {top_p}"
        )
    most_images = min(max_images, model.llm.config.max_position_embeddings)
    seed = as_integer("seed", seed, LEAST_SEED, MOST_SEED - most_images)
    options = check_options(model, 1, num_inference_steps, guidance_scale, negative_prompt)
    opening = model.open_layout(prompt)
    reader, generator = Reader(model), torch.Generator().manual_seed(seed)
    reader.read(opening, pictures_of([prompt], [opening.patches]))
    document, tokens = Document(prompt.items, prompt.targets), []
    painted, null, image_block = 0, None, 4 + model.queries + model.vision.patches
    thought = tokenizer.encode(THOUGHTS[model.config.template]) if think else []
    try:
        for _ in range(max_new_tokens):
            token = choose(reader.next_logits(special.never_sampled), temperature, top_p, generator)
            dreams = token == special.dream_start
            if token == special.eos or reader.room < (image_block if dreams else 1):
                break
            if not dreams:
                tokens.append(token)
                reader.read_token(token)
                continue
            if painted == max_images:
                break
            if thought and reader.room >= len(thought) + image_block:
                reader.read(Layout(thought, thought), [])
                tokens += thought + reader.thought(after=image_block)
            document.add_text(tokenizer.decode(tokens))
            tokens.clear()
            query_block, picture_block = Layout(), Layout()
            query_block.add_dream(0, special, model.queries, learned=False)
            hidden = reader.read(query_block, [])
            states = gather(hidden, model.queries, query_block.queries)
            if null is None:
                null = null_condition(model, options)
            image = paint_checked(model, states, [seed + painted], options, null)[0]
            document.add_painted(image)
            painted += 1
            picture_block.add_image(0, special, model.vision.patches)
            reader.read(picture_block, [image])
    except BaseException as error:  # also Ctrl-C: a picture may have taken minutes
        error.document = document
        error.add_note("What was written and painted before is in sys.last_value.document.")
        raise
    finally:
        document.add_text(tokenizer.decode(tokens))
    return document
