"""Where the full weights are looked for, and how large they are, without any download."""

import shutil
from pathlib import Path

import huggingface_hub
import pytest

import minidream
from minidream import weights
from minidream.weights.fake import outline_7b

TINY = Path(__file__).parent / "fixtures" / "tiny-a" / "checkpoint"


@pytest.fixture
def cached(monkeypatch, tmp_path):
    """A hub cache that holds one downloaded checkpoint under the second of the known names."""
    folder = tmp_path / "snapshot"
    shutil.copytree(TINY, folder)
    monkeypatch.delenv("MINIDREAM_7B", raising=False)
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda *_, **__: pytest.fail("something was downloaded"),
    )
    monkeypatch.setattr(
        huggingface_hub,
        "try_to_load_from_cache",
        lambda name, file: str(folder / file) if name == weights.HUB_NAMES[1] else None,
    )
    return folder


def test_what_was_downloaded_is_found(cached):
    assert weights.find_full() == cached


def test_half_a_download_is_none(cached):
    (cached / "stable_diffusion_head.bin").unlink()
    assert weights.find_full() is None


def test_the_named_folder_comes_first(cached, monkeypatch, tmp_path):
    monkeypatch.setenv("MINIDREAM_7B", str(TINY))
    assert weights.find_full() == TINY
    monkeypatch.setenv("MINIDREAM_7B", str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError, match="MINIDREAM_7B is .*elsewhere"):
        weights.find_full()
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("MINIDREAM_7B", str(tmp_path / "empty"))
    with pytest.raises(FileNotFoundError, match="config.json is missing"):
        weights.find_full()


def test_an_empty_cache_has_none(monkeypatch):
    monkeypatch.delenv("MINIDREAM_7B", raising=False)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    assert weights.find_full() is None


def test_the_outline_has_the_published_sizes_and_no_memory():
    model = outline_7b(None)
    count = {
        name: sum(parameter.numel() for parameter in part.parameters())
        for name, part in {
            "llm": model.llm,
            "vision": model.vision,
            "unet": model.decoder.unet,
            "vae": model.decoder.vae,
            "projector": model.decoder.projector,
        }.items()
    }
    assert sum(weights.part_sizes(model).values()) == sum(
        parameter.numel() for parameter in model.parameters()
    )
    # What the official classes gave for the official configs.
    assert count == {
        "llm": 6_738_481_152,
        "vision": 303_179_776 + 4096 * 1025,
        "unet": 865_910_724,
        "vae": 83_653_863,
        "projector": 4096 * 1024,
    }
    assert model.dream_queries.shape == (1, 64, 4096)
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("layout, files", [("checkpoint", 1), ("checkpoint_sharded", 3)])
def test_the_inventory_accounts_for_every_number(layout, files):
    model = minidream.load(
        TINY.parent / layout, device="cpu", component_configs=TINY.parent / "component_configs"
    )
    found = weights.inventory(TINY.parent / layout)
    assert len(found) == files + 3 and found["dream_embedding.bin"] == (1, 512, 2048)
    sizes = weights.part_sizes(model)
    assert (
        sum(numbers for _, numbers, _ in found.values())
        == sum(sizes.values())
        == sum(parameter.numel() for parameter in model.parameters())
    )
    assert sum(stored for *_, stored in found.values()) == 4 * sum(
        sizes.values()
    )  # all of it in float32
    assert sizes["dream queries"] == 512 and sizes["condition projector"] == 64 * 48
