"""Pictures in: official pixels, patches and embeddings; cropping and patch order by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from models_shared import tiny_official
from PIL import Image
from safetensors.torch import load_file
from torch.testing import assert_close

from minidream.documents import Batch
from minidream.images import fit_square
from minidream.tokenizers import ToyTokenizer
from minidream.vision import CLIP_MEAN, CLIP_STD, VisionEncoder, clip_pixels
from minidream.weights import toy
from minidream.weights.toy import clip_text_states

TINY = Path(__file__).parent / "fixtures" / "tiny-a"


@pytest.fixture(scope="module")
def official():
    return tiny_official()


@torch.no_grad()
def test_official_pixels_states_and_embeddings(official):
    golden = load_file(TINY / "golden/image_text.safetensors")
    images = [Image.fromarray(golden[f"raw_image_{number}"].numpy()) for number in range(2)]
    assert [image.size for image in images] == [(60, 45), (40, 52)], "one lies, one stands"
    pixels = official.vision.pixels(images)
    assert_close(pixels, golden["pixel_values"], atol=1e-4, rtol=0)
    assert_close(official.vision(pixels), golden["image_embeds"], atol=1e-4, rtol=0)


@torch.no_grad()
def test_official_answer_to_an_image(official):
    golden = load_file(TINY / "golden/image_text.safetensors")
    for ids, numbers, logits in (
        ("input_ids", [0], "logits"),
        ("input_ids_2img", [0, 1], "logits_2img"),
    ):
        ids = golden[ids]
        starts = (ids[0] == official.tokenizer.special.im_start).nonzero().flatten().tolist()
        batch = Batch(ids, ids, ids > -1, [(0, start + 1) for start in starts], [])
        images = [Image.fromarray(golden[f"raw_image_{number}"].numpy()) for number in numbers]
        hidden = official.llm(official.embed(batch, images))
        assert_close(official.llm.logits(hidden), golden[logits], atol=1e-4, rtol=0)


def test_fit_square_takes_the_middle_of_the_long_side():
    image = Image.new("RGB", (30, 10), "red")  # three squares in a row: red, blue, green
    image.paste("blue", (10, 0, 20, 10))
    image.paste("green", (20, 0, 30, 10))
    for size in (10, 5):
        square = fit_square(image, size, Image.Resampling.NEAREST)
        assert square.size == (size, size) and square.getcolors() == [(size * size, (0, 0, 255))]
        turned = fit_square(
            image.transpose(Image.Transpose.ROTATE_90), size, Image.Resampling.NEAREST
        )
        assert turned.getcolors() == [(size * size, (0, 0, 255))]
    fits = Image.fromarray(np.arange(75, dtype=np.uint8).reshape(5, 5, 3))
    assert fit_square(fits, 5, Image.Resampling.BICUBIC).tobytes() == fits.tobytes(), (
        "what fits is not touched"
    )
    for width, height in ((7, 300), (33, 31), (1000, 999)):
        assert fit_square(Image.new("RGB", (width, height)), 32, Image.Resampling.BICUBIC).size == (
            32,
            32,
        )


def test_clip_pixels_by_hand():
    images = torch.tensor(CLIP_MEAN).reshape(1, 3, 1, 1).expand(2, 3, 4, 5).clone()
    images[1, 2] += 2 * CLIP_STD[2]
    scaled = clip_pixels(images)
    assert_close(scaled[0], torch.zeros(3, 4, 5))
    assert_close(scaled[1].mean(dim=(1, 2)), torch.tensor([0.0, 0.0, 2.0]))


@torch.no_grad()
def test_patches_come_row_by_row_without_the_class_token_and_from_the_layer_before_the_last():
    torch.manual_seed(0)
    tower = toy.new_clip(20)[0].vision_model.eval()
    vision = VisionEncoder(tower, llm_dim=7)
    assert vision.grid == 8 and vision.patches == 64
    side = toy.IMAGE_SIZE // 8  # of a patch
    pixels = torch.zeros(1, 3, toy.IMAGE_SIZE, toy.IMAGE_SIZE)
    assert vision(pixels).shape == (1, 64, 7) and vision.projector.bias is not None
    states = tower(pixel_values=pixels, output_hidden_states=True).hidden_states
    assert len(states) == 5
    assert_close(vision(pixels), vision.projector(states[3][:, 1:]))
    # Before any layer has mixed the patches, a mark in row 2, column 5 shows in just that one.
    embedded = VisionEncoder(tower, llm_dim=7, select_layer=0)
    marked = pixels.clone()
    marked[..., 2 * side : 3 * side, 5 * side : 6 * side] = 1
    changed = (embedded(marked) - embedded(pixels))[0].abs().sum(dim=-1) > 1e-6
    assert changed.nonzero().flatten().tolist() == [2 * 8 + 5]


@torch.no_grad()
def test_text_states_do_not_depend_on_what_stands_beside_them():
    torch.manual_seed(0)
    tokenizer = ToyTokenizer(["a", "red", "ring", "star"])
    tower = toy.new_clip(len(tokenizer))[1].eval()
    captions = ["a red ring", "", "star"]
    states = clip_text_states(tower, tokenizer, captions)
    assert states.shape == (3, 32, toy.CONDITION_SIZE), "padded to the tower's length"
    for row, caption in enumerate(captions):
        assert_close(
            states[row], clip_text_states(tower, tokenizer, [caption])[0], atol=1e-5, rtol=0
        )


@torch.no_grad()
def test_the_padding_after_a_caption_knows_the_caption():
    torch.manual_seed(0)
    tokenizer = ToyTokenizer(["a", "red", "blue", "ring"])
    tower = toy.new_clip(len(tokenizer))[1].eval()
    one, other = clip_text_states(tower, tokenizer, ["a red ring", "a blue ring"])
    differ = (one - other).abs().amax(dim=-1) > 1e-4
    assert differ.tolist() == [False] * 2 + [True] * 30, "<s> a | red ring </s> and all the padding"


def test_a_caption_that_is_too_long_is_refused_with_both_numbers():
    tokenizer = ToyTokenizer(["red"])
    with pytest.raises(ValueError, match="takes 33 tokens .* reads 32"):
        clip_text_states(toy.new_clip(len(tokenizer))[1], tokenizer, ["red " * 31])
