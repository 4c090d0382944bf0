"""Ten documents still give the same numbers: states, latents, losses, attention and text.

Tokens and texts are compared exactly. Of each floating-point result a fingerprint is stored: its
shape and its products with a few fixed random vectors, compared with a tolerance, since another
processor adds in another order. The fingerprints were stored before the package was rearranged.
`python tests/test_unchanged.py --write` stores new ones; do this only for a change that is meant to
alter results.
"""

import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import minidream
from minidream import Document
from minidream.documents import lay_out

FOLDER = Path(__file__).parent / "fixtures"
STORED = FOLDER / "fingerprints.json"
TINY = FOLDER / "tiny-a"
MODELS = ("toy", "tiny-a")
SCENE = "a large red circle left of a small blue square"


def gradient(width: int, height: int) -> Image.Image:
    """A picture without randomness: red grows to the right, green downwards, blue is checkered."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(
        np.stack([x, y, 255.0 * ((x > 90) ^ (y > 150))], axis=-1).astype(np.uint8)
    )


def documents() -> list[Document]:
    """Ten documents: words alone, pictures to read, pictures to paint, and both in turn."""
    square, wide = gradient(32, 32), gradient(50, 30)
    return [
        Document([]),
        Document(["a star"]),
        Document([SCENE]),
        Document([SCENE, square]),
        Document([square, "a small green star."]),
        Document([wide, "the same but blue", square]),
        Document(["a red circle.", square, "the circle is blue now.", wide]),
        Document([square, wide], targets=[1]),
        Document(
            ["a large ring", square, "a small ring", wide, "what is there now?"], targets=[0, 1]
        ),
        Document([square, wide, "a black background"], targets=[]),
    ]


def load(name: str):
    if name == "toy":
        return minidream.load("toy", device="cpu")
    return minidream.load(
        TINY / "checkpoint", device="cpu", component_configs=TINY / "component_configs"
    )


def results(name: str) -> dict[str, torch.Tensor | list | str]:
    """Everything that is compared, by name; tensors are float32."""
    model, found = load(name), {}
    for number, document in enumerate(documents()):
        layout = lay_out(document, model.tokenizer, model.queries, model.vision.patches)
        found[f"layout {number}"] = [layout.ids, layout.labels, layout.patches, layout.queries]
        found[f"states {number}"] = model.encode(document)
        found[f"latents {number}"] = model.dream(
            document, seed=number, num_inference_steps=3, output_type="latent"
        )
        with torch.no_grad():
            losses = model.loss([document], torch.Generator().manual_seed(number))
        found[f"losses {number}"] = torch.stack([losses.total, losses.language, losses.diffusion])
        trace = minidream.probe.dream_attention(model, document)
        found[f"trace {number}"] = trace.weights
        found[f"inputs {number}"] = [str(label) for label in trace.inputs]
    found["batch"] = model.encode(documents())
    with torch.no_grad():
        losses = model.loss(documents(), torch.Generator().manual_seed(7))
    found["batch losses"] = torch.stack([losses.total, losses.language, losses.diffusion])
    found["answer"] = model.chat([gradient(32, 32), "what color is the circle?"], max_new_tokens=8)
    written = model.write(SCENE, max_images=1, max_new_tokens=12, seed=3, num_inference_steps=2)
    found["written"] = [item if isinstance(item, str) else "[image]" for item in written.items]
    return found


def fingerprint(value) -> dict | str:
    """A tensor's shape, norm and products with four unit vectors; of all else a hash."""
    if not isinstance(value, torch.Tensor):
        return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
    flat = value.double().flatten()
    vectors = torch.randn(
        4, len(flat), generator=torch.Generator().manual_seed(len(flat)), dtype=torch.float64
    )
    products = (vectors @ flat) / math.sqrt(len(flat))
    return {
        "shape": list(value.shape),
        "norm": round(flat.norm().item(), 6),
        "products": [round(product, 6) for product in products.tolist()],
    }


@pytest.mark.parametrize("name", MODELS)
def test_ten_documents_give_what_they_gave(name):
    stored = json.loads(STORED.read_bytes())[name]
    found = {key: fingerprint(value) for key, value in results(name).items()}
    assert found.keys() == stored.keys()
    for key, expected in stored.items():
        if isinstance(expected, str):
            assert found[key] == expected, key
            continue
        assert found[key]["shape"] == expected["shape"], key
        numbers, wanted = ([entry["norm"], *entry["products"]] for entry in (found[key], expected))
        assert numbers == pytest.approx(wanted, abs=1e-4 * max(1.0, expected["norm"])), key


def test_a_fingerprint_notices_one_number_and_an_exchange():
    value = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    other = value.clone()
    other[1, 2] += 0.01
    exchanged = value[[1, 0, 2]]
    products = fingerprint(value)["products"]
    for changed in (other, exchanged):
        assert max(abs(a - b) for a, b in zip(products, fingerprint(changed)["products"])) > 1e-3


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("python tests/test_unchanged.py --write")
    STORED.write_text(
        json.dumps(
            {
                name: {key: fingerprint(value) for key, value in results(name).items()}
                for name in MODELS
            },
            indent=1,
        )
        + "\n",
        encoding="utf-8",
    )
