"""Pictures enter as they are meant to be seen: upright, whole, of any shape, or not at all."""

import io
import random

import IPython.display
import matplotlib.axes
import numpy as np
import pytest
import torch
from models_shared import untrained_toy
from PIL import Image
from torch.testing import assert_close

from minidream import plots
from minidream.documents import Document, turn_layout
from minidream.images import THIN, as_rgb, fit_square, to_tensor
from minidream.probe import dream_attention

BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR
ORIENTATION = 0x0112
SIDEWAYS = range(1, 9)
# A lopsided picture of even blocks, which JPEG keeps: red, green, blue above yellow, black, white.
BLOCKS = np.array(
    [[(255, 0, 0), (0, 255, 0), (0, 0, 255)], [(255, 255, 0), (0, 0, 0), (255, 255, 255)]],
    dtype=np.uint8,
)
UPRIGHT = BLOCKS.repeat(16, axis=0).repeat(16, axis=1)


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """The array that a camera stores, from the EXIF standard's definition of the orientations.

    It names the sides of the picture at which the first row and the first column of the array are.
    """
    row, column = {
        1: ("top", "left"),
        2: ("top", "right"),
        3: ("bottom", "right"),
        4: ("bottom", "left"),
        5: ("left", "top"),
        6: ("right", "top"),
        7: ("right", "bottom"),
        8: ("left", "bottom"),
    }[orientation]
    array = upright if row in ("top", "bottom") else upright.swapaxes(0, 1)
    array = array[::-1] if row in ("bottom", "right") else array
    return array[:, ::-1] if column in ("bottom", "right") else array


def photo(orientation: int, file_format: str = "PNG", mode: str = "RGB") -> Image.Image:
    """`UPRIGHT` as a file of a camera that was held some other way, opened."""
    image = Image.fromarray(stored(UPRIGHT, orientation)).convert(mode, dither=Image.Dither.NONE)
    return from_file(image, orientation, file_format)


def from_file(image: Image.Image, orientation: int, file_format: str) -> Image.Image:
    """An image that was written with this EXIF orientation, and opened."""
    exif, file = Image.Exif(), io.BytesIO()
    exif[ORIENTATION] = orientation
    options = {"WEBP": dict(lossless=True), "JPEG": dict(quality=98, subsampling=0)}
    image.save(file, file_format, exif=exif, **options.get(file_format, {}))
    return Image.open(file)


@pytest.fixture(scope="module")
def model():
    return untrained_toy()


# --------------------------------------------------------------------------------------------------
# Upright


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", SIDEWAYS)
def test_a_photo_is_upright_however_the_camera_was_held(orientation, file_format):
    seen = np.asarray(as_rgb(photo(orientation, file_format))).astype(int)
    assert seen.shape == UPRIGHT.shape
    assert np.abs(seen - UPRIGHT).max() <= (3 if file_format == "JPEG" else 0)


@pytest.mark.parametrize(
    "mode, file_format",
    [("L", "JPEG"), ("CMYK", "JPEG"), ("CMYK", "TIFF"), ("RGBA", "PNG"), ("LA", "PNG")]
    + [("1", "PNG"), ("RGBA", "WEBP"), ("RGBA", "TIFF")],
)
@pytest.mark.parametrize("orientation", SIDEWAYS)
def test_every_mode_is_turned(orientation, mode, file_format):
    seen = np.asarray(as_rgb(photo(orientation, file_format, mode))).astype(int)
    upright = Image.fromarray(UPRIGHT).convert(mode, dither=Image.Dither.NONE)
    wanted = np.asarray(as_rgb(upright)).astype(int)
    assert seen.shape == wanted.shape
    assert np.abs(seen - wanted).max() <= (6 if file_format == "JPEG" else 0)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", SIDEWAYS)
def test_sixteen_bits_and_palettes_are_turned(orientation, file_format):
    deep = (np.arange(6, dtype=np.uint16) * 257 * 40).reshape(2, 3)
    image = from_file(Image.fromarray(stored(deep, orientation).copy()), orientation, file_format)
    assert image.mode.startswith("I;16")
    np.testing.assert_array_equal(np.asarray(as_rgb(image))[..., 0], deep // 257)
    colours = Image.fromarray(stored(UPRIGHT, orientation)).quantize(6)
    seen = as_rgb(from_file(colours, orientation, file_format))
    np.testing.assert_array_equal(np.asarray(seen), UPRIGHT)


@pytest.mark.parametrize("orientation", SIDEWAYS)
def test_a_picture_is_turned_once(orientation):
    """Also if the caller has loaded it before, or keeps its EXIF data only in memory."""
    picture = photo(orientation)
    picture.load()
    for _ in range(2):
        assert as_rgb(as_rgb(picture)).tobytes() == UPRIGHT.tobytes()
        again = Document(Document([picture]).items).images[0]
        assert again.tobytes() == UPRIGHT.tobytes() and not again.getexif()
    made = Image.fromarray(stored(UPRIGHT, orientation))
    made.getexif()[ORIENTATION] = orientation
    assert as_rgb(made).tobytes() == UPRIGHT.tobytes()


def test_xmp_data_say_the_orientation_too():
    made = Image.fromarray(stored(UPRIGHT, 6))
    made.info["xmp"] = b'<rdf:Description tiff:Orientation="6"/>'
    assert as_rgb(as_rgb(made)).tobytes() == UPRIGHT.tobytes()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_broken_exif_data_are_no_reason_to_refuse_a_picture():
    """The picture is taken as stored, or turned if the orientation could still be read."""
    exif, rng = Image.Exif(), random.Random(0)
    exif[ORIENTATION], exif[0x010F] = 6, "a camera"
    whole, array = exif.tobytes(), stored(UPRIGHT, 6)
    for text in [b"Exif\0\0", b"garbage", b"II", *(whole[:end] for end in range(0, len(whole), 3))]:
        made = Image.fromarray(array)
        made.info["exif"] = text
        first, second = as_rgb(made).tobytes(), as_rgb(made).tobytes()
        assert first == second and first in (array.tobytes(), UPRIGHT.tobytes())
    for _ in range(300):
        broken = bytearray(whole)
        for place in rng.sample(range(len(broken)), 3):
            broken[place] = rng.randrange(256)
        made = Image.fromarray(array)
        made.info["Raw profile type exif"] = f"\nexif\n{len(broken):8}\n{broken.hex()[:-1]}\n"
        assert as_rgb(made).tobytes() == as_rgb(made).tobytes()
        made.info = {"exif": bytes(broken)}
        assert as_rgb(made).mode == "RGB"


@pytest.mark.parametrize("orientation", SIDEWAYS)
def test_wherever_a_picture_enters_the_model_it_is_upright(model, orientation):
    picture, upright = photo(orientation), Image.fromarray(UPRIGHT)
    assert torch.equal(to_tensor([picture]), to_tensor([upright]))
    assert torch.equal(model.vision.pixels([picture]), model.vision.pixels([upright]))
    _, [seen] = turn_layout(model, [picture, "what color is the ring?"])
    assert seen.tobytes() == UPRIGHT.tobytes()
    square = fit_square(upright, 24, BILINEAR).tobytes()
    assert fit_square(picture, 24, BILINEAR).tobytes() == square


def test_a_document_with_a_photo_gives_what_the_upright_picture_gives(model):
    documents = [Document([one, "now", one]) for one in (photo(6), Image.fromarray(UPRIGHT))]
    assert_close(*map(model.encode, documents), atol=0, rtol=0)
    losses = [model.loss(one, torch.Generator().manual_seed(0)).total for one in documents]
    assert losses[0] == losses[1]
    traces = [dream_attention(model, one) for one in documents]
    assert torch.equal(traces[0].weights, traces[1].weights)
    assert [image.tobytes() for image in traces[0].images] == [UPRIGHT.tobytes()] * 2


def test_shown_pictures_are_upright(model, monkeypatch):
    shown, drawn = [], []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    Document([photo(8)]).show()
    assert shown[0].tobytes() == UPRIGHT.tobytes()
    plain = matplotlib.axes.Axes.imshow

    def imshow(axis, image, *arguments, **options):
        drawn.append(np.asarray(image))
        return plain(axis, image, *arguments, **options)

    monkeypatch.setattr(matplotlib.axes.Axes, "imshow", imshow)
    side, maps, picture = photo(6), np.full((1, 2, 3), 0.5), photo(3)
    for draw, arguments in [
        (plots.plot_pictures, ([side],)),
        (plots.plot_choice, (side, "a ring", "")),
        (plots.plot_film, ({"": [side]}, [""], "")),
        (plots.plot_boxes, ([side], [{"ring": (0, 0, 1, 1)}], [""], "")),
        (plots.plot_document, (Document([side]),)),
        (plots.plot_patch_words, ([side], [[None] * 6], 3, "")),
        (plots.plot_cell_attention, (side, maps, ["ring"], "")),
        (plots.plot_scores, ([side], ["ring"], {"": np.ones((1, 1))}, "", "")),
        (plots.plot_ablation, (side, picture, [], np.zeros(UPRIGHT.shape[:2]))),
        (plots.plot_denoising_steps, ([side], [picture], maps, [1], 0)),
        (plots.plot_trace, (dream_attention(model, Document([side, "now"])),)),
    ]:
        drawn.clear()
        draw(*arguments)
        assert drawn and drawn[0].shape == UPRIGHT.shape, draw
        np.testing.assert_array_equal(drawn[0], UPRIGHT)
    drawn.clear()
    plots.plot_patches(side, 2, 3, "")
    assert [patch.reshape(-1, 3).max(axis=0).tolist() for patch in drawn[1:]] == [
        list(colour) for colour in BLOCKS.reshape(-1, 3).tolist()
    ]
    drawn.clear()
    plots.plot_denoising(side, side, maps[0], 0, 0, 1)
    assert [image.shape[:2] for image in drawn] == [UPRIGHT.shape[:2]] * 3
    np.testing.assert_array_equal(drawn[1], UPRIGHT)  # the third has outlines only


# --------------------------------------------------------------------------------------------------
# Thin pictures and empty ones


def resized_then_cropped(image: Image.Image, size: int, resample) -> Image.Image:
    """The central square as the official processors of pictures find it."""
    scale = size / min(image.size)
    width, height = (max(size, int(edge * scale)) for edge in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    image = image.resize((width, height), resample)
    return image.crop((left, top, left + size, top + size))


def grey_noise(rng: random.Random, width: int, height: int) -> Image.Image:
    """Noise without the darkest and lightest values, so that no filter overshoots their range."""
    values = np.random.default_rng(rng.randrange(2**32)).integers(64, 192, (height, width, 3))
    return Image.fromarray(values.astype(np.uint8))


@pytest.mark.parametrize("resample", [BICUBIC, BILINEAR])
def test_ordinary_pictures_are_resized_and_then_cropped_bit_for_bit(resample):
    rng = random.Random(0)
    for _ in range(200):
        size, short = rng.choice([1, 3, 14, 32, 47]), rng.randint(1, 60)
        edges = [short, min(int(short * rng.uniform(1, THIN / 2)), 500)]
        rng.shuffle(edges)
        image = grey_noise(rng, *map(max, edges, (1, 1)))
        square = fit_square(image, size, resample)
        assert square.tobytes() == resized_then_cropped(image, size, resample).tobytes(), edges


@pytest.mark.parametrize("resample", [BICUBIC, BILINEAR])
def test_thin_pictures_give_the_same_square_up_to_rounding(resample):
    """They are cut before they are resized. Width and height are rounded one after the other."""
    rng = random.Random(0)
    for _ in range(100):
        size, short = rng.choice([1, 2, 3, 14, 32, 47]), rng.randint(1, 20)
        edges = [short, int(short * rng.uniform(THIN + 1, 5 * THIN))]
        rng.shuffle(edges)
        image = grey_noise(rng, *edges)
        pictures = (fit_square(image, size, resample), resized_then_cropped(image, size, resample))
        square, expected = (np.asarray(picture).astype(int) for picture in pictures)
        assert np.abs(square - expected).max() <= 2, (edges, size)


@pytest.mark.parametrize("edges", [(5000, 1), (1, 5000), (100_000, 3), (7, 90_001)])
def test_a_thin_picture_needs_no_more_memory_than_an_ordinary_one(monkeypatch, edges):
    plain, size = Image.Image.resize, 512

    def resize(image, wanted, *arguments):
        assert np.prod(wanted) <= THIN * size**2, f"{wanted} pixels"
        return plain(image, wanted, *arguments)

    monkeypatch.setattr(Image.Image, "resize", resize)
    thin = Image.new("RGB", edges, "blue")
    middle = [edge // 2 for edge in edges]
    thin.paste("red", (middle[0] - 30, middle[1] - 30, middle[0] + 30, middle[1] + 30))
    for resample in (BICUBIC, BILINEAR):
        square = fit_square(thin, size, resample)
        assert square.size == (size, size) and square.getcolors() == [(size**2, (255, 0, 0))]


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_a_picture_without_pixels_is_refused_by_name(model, size):
    for mode in ("RGB", "L", "I;16"):
        empty = Image.new(mode, size)
        for enter in (
            lambda image: Document(["a ring", image]),
            lambda image: model.chat([image, "what color is the ring?"]),
            lambda image: model.vision.pixels([image]),
            lambda image: model.decoder.latents_of([image]),
            lambda image: to_tensor([image]),
            lambda image: fit_square(image, 8, BILINEAR),
        ):
            with pytest.raises(ValueError, match=rf"image of size \({size[0]}, {size[1]}\) has no"):
                enter(empty)


# --------------------------------------------------------------------------------------------------
# What is no picture, and files that cannot be read


@pytest.mark.parametrize(
    "item", [np.zeros((5, 3, 3), dtype=np.uint8), torch.zeros(3, 5, 3), b"photo.jpg", 3, None]
)
def test_what_is_no_picture_is_named_with_the_way_to_make_one(model, item):
    name = type(item).__name__
    for enter in (as_rgb, lambda image: fit_square(image, 8, BILINEAR), lambda i: to_tensor([i])):
        with pytest.raises(TypeError, match=f"is a PIL image, not a {name}; .*fromarray"):
            enter(item)
    with pytest.raises(TypeError, match=f"item 1 of a document is a {name}; .*PIL.Image.open"):
        Document(["a ring", item])
    with pytest.raises(TypeError, match=f"item 0 of a document is a {name}"):
        model.chat([item, "what color is the ring?"])


def test_a_file_that_ends_too_early_or_is_closed_is_named_before_any_work(tmp_path):
    path = tmp_path / "photo.jpg"
    Image.effect_noise((90, 70), 60).save(path)
    with Image.open(path) as closed:
        pass
    (tmp_path / "cut.jpg").write_bytes(path.read_bytes()[:-200])
    cut = Image.open(tmp_path / "cut.jpg")
    for image, file in ((closed, "photo.jpg"), (cut, "cut.jpg")):
        with pytest.raises(ValueError, match=rf"item 1 .*cannot be read as RGB.*{file}"):
            Document(["a ring", image])


def test_a_document_keeps_its_pictures_when_their_files_and_images_change(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(UPRIGHT).save(path)
    image = Image.open(path)
    document = Document([image])
    image.paste("black", (0, 0, 48, 32))
    image.close()
    path.unlink()
    assert document.images[0].tobytes() == UPRIGHT.tobytes()


def test_of_an_animation_the_current_frame_is_read(tmp_path):
    path = tmp_path / "moves.gif"
    frames = [Image.new("RGB", (5, 3), colour) for colour in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    animation = Image.open(path)
    assert as_rgb(animation).getpixel((0, 0)) == (255, 0, 0)
    animation.seek(1)
    assert as_rgb(animation).getpixel((0, 0)) == (0, 0, 255)
