"""A thousand random documents through layout, loss and encode: about seven minutes on one core."""

import io
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from minidream.documents import IGNORED, Document, lay_out
from minidream.images import as_rgb
from minidream.tokenizers import ToyTokenizer
from minidream.weights import toy
from minidream.world.language import VOCABULARY

pytestmark = pytest.mark.slow
MODES = ["RGB", "RGBA", "L", "LA", "P", "PA", "1", "CMYK", "YCbCr", "LAB", "HSV", "I;16"]
FORMATS = {"JPEG": ("RGB", "L", "CMYK"), "PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")}
FORMATS |= {"WEBP": ("RGB", "RGBA"), "TIFF": ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16")}
DOCUMENTS, AT_ONCE = 100, 5


@pytest.fixture(scope="module")
def model():
    return toy.new_model(ToyTokenizer(VOCABULARY), seed=2).eval().requires_grad_(False)


def random_text(rng: random.Random) -> str:
    """No word at all, blanks, or up to fifteen words, with upper case and blanks around them."""
    words = rng.choices(VOCABULARY, k=rng.choice([0, 0, 1, 3, 15]))
    text = " ".join(rng.choice([word, word.upper()]) for word in words)
    return rng.choice(["", " ", "\n"]) + text + rng.choice(["", "  ", "\t"])


def random_picture(rng: random.Random) -> Image.Image:
    """Noise of a random size and mode; often from a file with EXIF data, perhaps broken ones."""
    edges = [rng.randint(1, 70), rng.randint(1, 70)]
    if rng.random() < 0.1:
        edges[rng.randrange(2)] = rng.randint(500, 4000)
    numbers = np.random.default_rng(rng.randrange(2**32))
    mode = rng.choice(MODES)
    if mode == "I;16":
        image = Image.fromarray(numbers.integers(0, 2**16, edges, dtype=np.uint16))
    else:
        rgba = Image.fromarray(numbers.integers(0, 256, (*edges, 4), dtype=np.uint8))
        image = rgba if mode == "RGBA" else rgba.convert("LA" if mode in ("LA", "PA") else "RGB")
        if mode == "LAB":  # to which Pillow converts nothing
            image = Image.merge(mode, image.split())
        elif mode != image.mode:
            image = image.convert(mode)
    formats = [name for name, modes in FORMATS.items() if mode in modes]
    if not formats or rng.random() < 0.4:
        return image
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = rng.randrange(11)
    image.save(file, rng.choice(formats), exif=exif)
    opened = Image.open(file)
    if "exif" in opened.info and rng.random() < 0.2:
        opened.info["exif"] = opened.info["exif"][: rng.randrange(30)]
    return opened


def random_document(rng: random.Random) -> Document:
    """Up to sixteen items in any order, and targets as they come or chosen at random."""
    items = [
        random_picture(rng) if rng.random() < 0.45 else random_text(rng)
        for _ in range(rng.choice([0, 1, 2, 3, 4, 5, 6, 16]))
    ]
    images = sum(not isinstance(item, str) for item in items)
    chosen = [image for image in range(images) if rng.random() < 0.5]
    return Document(items, rng.choice([None, chosen]))


def expected_sequence(document: Document, model) -> list[str]:
    """The names of all tokens of a document, from the paper's rules for interleaved documents."""
    image, names = 0, ["<s>"]
    for item in document.items:
        if isinstance(item, str):
            names += item.lower().split()
            continue
        if image in document.targets:
            names += ["<dream_start>", *["<im_patch>"] * model.queries, "<dream_end>"]
        names += ["<im_start>", *["<im_patch>"] * model.vision.patches, "<im_end>"]
        image += 1
    return [*names, "</s>"]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("seed", range(10))
@torch.no_grad()
def test_random_documents(model, monkeypatch, seed):
    rng, context = random.Random(seed), model.llm.config.max_position_embeddings
    fitting, too_long = [], 0
    for _ in range(DOCUMENTS):
        document = random_document(rng)
        assert all(as_rgb(image).tobytes() == image.tobytes() for image in document.images)
        layout = lay_out(document, model.tokenizer, model.queries, model.vision.patches)
        names = expected_sequence(document, model)
        assert [model.tokenizer.names[token] for token in layout.ids] == names
        written = {"<dream_start>", "</s>", *VOCABULARY}
        learned = [token if name in written else IGNORED for token, name in zip(layout.ids, names)]
        assert layout.labels == learned
        if len(names) > context:
            with pytest.raises(ValueError, match=f"takes {len(names)} positions.* has {context}"):
                model.loss(document)
        needed = len(names) + model.queries  # `<dream_start>` comes in place of `</s>`
        if needed > context:
            with pytest.raises(ValueError, match=f"takes {needed} positions.* has {context}"):
                model.encode(["", document])
            too_long += 1
        else:
            fitting.append((document, layout))
    assert len(fitting) > DOCUMENTS / 2 and too_long
    for start in range(0, len(fitting), AT_ONCE):
        documents, layouts = zip(*fitting[start : start + AT_ONCE])
        together = model.encode(list(documents))
        alone = torch.cat([model.encode(document) for document in documents])
        assert_close(together, alone, atol=1e-5, rtol=1e-5)
        assert model.loss(list(documents), torch.Generator().manual_seed(seed)).total.isfinite()
        check_mean(model, monkeypatch, documents, layouts)


def check_mean(model, monkeypatch, documents, layouts) -> None:
    """The loss of a batch is the mean over all tokens, and over all pictures, of its documents.

    Drawn noise would differ between a batch and its documents. A stand-in for the denoising loss
    compares each picture's latents with its condition instead.
    """

    def distance(latents, condition, generator):
        return (latents.mean(dim=(1, 2, 3)) - condition.mean(dim=(1, 2))).square().mean()

    with monkeypatch.context() as patch:
        patch.setattr(model.decoder, "loss", distance)
        patch.setattr(model, "drop_conditions", lambda states, generator: states)
        singles, batch = [model.loss(document) for document in documents], model.loss(documents)
    tokens = [sum(label != IGNORED for label in layout.labels) for layout in layouts]
    pictures = [len(layout.queries) for layout in layouts]
    for name, weights in (("language", tokens), ("diffusion", pictures)):
        values = [getattr(losses, name) for losses in singles]
        whole = sum(weight * value for weight, value in zip(weights, values))
        assert_close(getattr(batch, name), whole / max(1, sum(weights)), atol=1e-5, rtol=1e-5)
