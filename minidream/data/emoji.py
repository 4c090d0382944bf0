"""A small data set to try: scenes of one or two emoji, with captions, as a folder of pictures.

`python -m minidream.data.emoji FOLDER` writes it in the format that `imagefolder` reads. The
captions are in the toy's own words, but for the names of the emoji: "a large cat left of a small
rocket on a black background". The pictures are of Noto Emoji; see `emoji.NOTICE.txt`.
"""

import argparse
import csv
import random
from functools import cache
from pathlib import Path

from PIL import Image

from ..images import as_integer
from .pictures import as_path

SHEET = Path(__file__).with_name("emoji.png")
SIDE = 32  # pixels of an emoji in the sheet
# In the order of the sheet, row by row.
NAMES = (
    "apple banana bell boat cactus car cat cloud crown dog fish sunflower frog ghost guitar heart "
    "house key moon mushroom pizza rocket tree umbrella"
).split()
BACKGROUNDS = {"white": (247, 247, 247), "gray": (153, 153, 153), "black": (10, 10, 10)}
SIZES = {"small": 0.3, "large": 0.44}  # width, as a share of the picture's
# Whether the second emoji is beside the first or below it; and the word in which they change roles.
RELATIONS = {"left of": (True, "right of"), "above": (False, "below")}


@cache
def emoji() -> dict[str, Image.Image]:
    """The emoji by name: RGBA, 32 x 32 pixels."""
    sheet = Image.open(SHEET).convert("RGBA")
    columns = sheet.width // SIDE
    corners = [(index % columns * SIDE, index // columns * SIDE) for index in range(len(NAMES))]
    boxes = [(x, y, x + SIDE, y + SIDE) for x, y in corners]
    return {name: sheet.crop(box) for name, box in zip(NAMES, boxes)}


def scene(rng: random.Random, side: int = 64) -> tuple[Image.Image, str]:
    """One or two emoji on a background, and what the picture shows.

    Args:
        rng: draws the scene and its wording.
        side: width and height, in pixels.
    """
    background, relation = rng.choice(list(BACKGROUNDS)), rng.choice(list(RELATIONS))
    names = rng.sample(NAMES, rng.choice((1, 2)))
    sizes = [rng.choice(list(SIZES)) for _ in names]
    picture = Image.new("RGB", (side, side), BACKGROUNDS[background])
    beside, opposite = RELATIONS[relation]
    for index, (name, size) in enumerate(zip(names, sizes)):
        width = round(SIZES[size] * side)
        # Two share the picture out along one axis; along the other one they are anywhere.
        part = side // len(names)
        along = part * index + rng.randint(0, part - width)
        across = rng.randint(0, side - width)
        corner = (along, across) if beside else (across, along)
        small = emoji()[name].resize((width, width), Image.Resampling.LANCZOS)
        picture.paste(small, corner, small)
    said = [f"a {size} {name}" for name, size in zip(names, sizes)]
    if len(said) == 2 and rng.random() < 0.5:
        said, relation = said[::-1], opposite
    text = f" {relation} ".join(said)
    return picture, text + f" on a {background} background" * (rng.random() < 0.5)


def write_emoji(folder, count: int = 480, seed: int = 0, side: int = 64) -> Path:
    """Writes scenes and their captions, for `minidream.data.imagefolder`.

    Args:
        folder: is made; a new one, or one that this wrote before.
        count: of pictures.
        seed: of all scenes.
        side: width and height of a picture, in pixels.

    Returns:
        The folder.

    Raises:
        TypeError, ValueError: for a count below 1, or a side below 8.
        FileExistsError: if the folder holds anything else.
    """
    count, side = as_integer("count", count, least=1), as_integer("side", side, least=8)
    folder, rng = as_path(folder), random.Random(f"emoji {as_integer('seed', seed)}")
    there = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if there - {"metadata.csv", "images"}:
        raise FileExistsError(f"{folder} holds other files: choose a new folder")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        picture, text = scene(rng, side)
        picture.save(folder / "images" / f"{number:05}.png")
        rows.append((f"images/{number:05}.png", text))
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("file_name", "text"), *rows])
    return folder


def main(arguments: list[str] | None = None) -> None:
    """The command line; None takes the arguments of the process."""
    parser = argparse.ArgumentParser(
        prog="python -m minidream.data.emoji",
        description="Writes captioned pictures of emoji, to fine-tune a toy on.",
    )
    parser.add_argument("folder", help="a new folder")
    parser.add_argument("--count", type=int, default=480, help="of pictures (default: 480)")
    parser.add_argument("--seed", type=int, default=0, help="of all scenes (default: 0)")
    options = parser.parse_args(arguments)
    try:
        folder = write_emoji(options.folder, options.count, options.seed)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"{options.count} pictures in {folder}. The words that a toy has to learn:")
    print(" ".join(NAMES))


if __name__ == "__main__":
    main()
