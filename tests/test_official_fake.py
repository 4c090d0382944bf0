"""The random checkpoint of full size, made here with tiny sizes: it loads, works and cleans up."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import minidream
from minidream.weights import __main__ as command
from minidream.weights import fake, reading, writing

TINY = Path(__file__).parent / "fixtures" / "tiny-a"


@pytest.fixture(autouse=True)
def tiny_sizes(monkeypatch):
    """The tiny checkpoint's sizes replace the full ones; there are still several shards."""
    sizes = json.loads((TINY / "checkpoint/config.json").read_bytes())
    names = (
        "model_type",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "max_position_embeddings",
    )
    monkeypatch.setattr(
        fake,
        "CONFIG",
        {name: sizes[name] for name in names}
        | {"plugins_init_kwargs": {"dream_embedding": {"num_dream_queries": 8}}},
    )
    monkeypatch.setattr(fake, "PIECES", 900)
    monkeypatch.setattr(fake, "LEARNED", 700)
    monkeypatch.setattr(fake, "SHIPPED_CONFIGS", TINY / "component_configs")
    monkeypatch.setattr(reading, "SHIPPED_CONFIGS", TINY / "component_configs")
    monkeypatch.setattr(writing, "SHARD_BYTES", 200_000)


def run(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["minidream.weights", *map(str, arguments)])
    command.main()


def test_it_loads_and_can_be_used(tmp_path, monkeypatch):
    run(monkeypatch, "fake-7b", tmp_path / "fake")
    names = {path.name for path in (tmp_path / "fake").iterdir()}
    assert (
        {
            "config.json",
            "model.safetensors.index.json",
            "dream_embedding.bin",
            "clip_vision_embedding.bin",
            "stable_diffusion_head.bin",
            "tokenizer.model",
            "added_tokens.json",
        }
        <= names
        and "component_configs" not in names
        and "model.safetensors" not in names
    )
    model = minidream.load(tmp_path / "fake", device="cpu")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.llm.config.vocab_size == 908 and model.tokenizer.special.dream_end == 907
    assert model.llm.layers[0].self_attn.q_proj.weight.float().std().item() == pytest.approx(
        64**-0.5, rel=0.1
    )
    assert (model.llm.norm.weight == 1).all() and not model.vision.projector.bias.any()
    image = model.dream("A small cat", num_inference_steps=2, output_type="pt")
    assert image.shape == (3, 32, 32) and image.isfinite().all() and image.std() > 0
    assert isinstance(
        model.chat([Image.new("RGB", (40, 30), "red"), "What is in the image?"], max_new_tokens=5),
        str,
    )
    trace = minidream.probe.dream_attention(model, "A small cat")
    assert trace.weights.isfinite().all()
    assert (
        model.tokenizer.decode(model.tokenizer.encode("A small cat, two  birds\nand 漢"))
        == "A small cat, two  birds\nand 漢"
    )


def test_it_is_never_written_over_something(tmp_path, monkeypatch):
    (tmp_path / "weights").mkdir()
    with pytest.raises(SystemExit, match="weights was not written: .* exists already"):
        run(monkeypatch, "fake-7b", tmp_path / "weights")


def test_too_little_disk_is_said_first(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=123_456))
    with pytest.raises(SystemExit, match=r"fake would take \d\.\d\d GB, and 0\.00 GB are free"):
        run(monkeypatch, "fake-7b", tmp_path / "fake")
    assert list(tmp_path.iterdir()) == []


def test_stopped_in_the_middle_it_leaves_nothing(tmp_path, monkeypatch):
    drawn, plain = [], fake.random_like

    def random_like(name, *rest):
        drawn.append(name)
        if name.startswith("unet."):
            raise KeyboardInterrupt
        return plain(name, *rest)

    monkeypatch.setattr(fake, "random_like", random_like)
    with pytest.raises(SystemExit, match="stopped; nothing was left behind"):
        run(monkeypatch, "fake-7b", tmp_path / "fake")
    assert "model.norm.weight" in drawn and list(tmp_path.iterdir()) == []


def test_help_says_how_much_it_takes(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "fake-7b", "--help")
    said = " ".join(capsys.readouterr().out.split())
    assert "DIR" in said and "16 GB on disk" in said
