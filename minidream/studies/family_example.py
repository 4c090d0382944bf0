"""The running example: one scene and one pair; every run of every family keeps its replies."""

import base64
import io
import random
from dataclasses import replace
from textwrap import fill

from PIL import Image

from ..families.family import Family
from ..families.samples import (
    PAINTED_KINDS,
    PROMPT_KINDS,
    Sample,
    scene_sample,
    story_sample,
)
from ..plots import plot_film, text_table
from ..world.language import description
from ..world.scenes import Scene, SceneObject
from ..world.stories import Story, edit_of

RUNNING = Scene((SceneObject("ring", "green", "large", x=0.42, y=0.58),), "gray")
RUNNING_PAIR = Scene(
    (
        SceneObject("ring", "green", "large", x=0.3, y=0.58),
        SceneObject("star", "red", "small", x=0.75, y=0.5),
    ),
    "gray",
)


def running(kind: str) -> Sample:
    """The running example as a sample of one kind; its words do not depend on chance."""
    rng = random.Random("the running example")
    if kind in ("story", "edit"):
        after, described, asked = edit_of(RUNNING, "recolour", rng)
        return story_sample(
            kind,
            Story((f"a story: {description(RUNNING)}.", RUNNING, described, after))
            if kind == "story"
            else Story((RUNNING, asked, after), given=(0,)),
        )
    if kind in PROMPT_KINDS:
        scene = RUNNING if kind == "paint" else RUNNING_PAIR
        sample = scene_sample(kind, scene, rng)
        return replace(sample, given=(description(scene),), expected=scene.facts)
    return scene_sample(kind, RUNNING, rng)


def example_of(family: Family) -> dict[str, str | None]:
    """{kind: reply} to the running example; pictures as PNG files in base64."""
    replies = {kind: family.replies([running(kind)])[0] for kind in family.kinds}
    return {
        kind: reply if reply is None or isinstance(reply, str) else as_png(reply)
        for kind, reply in replies.items()
    }


def as_png(picture: Image.Image) -> str:
    """A picture as a PNG file in base64."""
    picture.save(file := io.BytesIO(), format="png")
    return base64.b64encode(file.getvalue()).decode()


def of_png(text: str) -> Image.Image:
    """The picture of a PNG file in base64."""
    return Image.open(io.BytesIO(base64.b64decode(text)))


def replies_of(runs: list[dict], kind: str) -> list:
    """The replies of runs to the running example, in their order.

    Returns:
        Strings or PIL images, None where nothing was painted; [] if the family cannot do it.
    """
    replies = [done["example"][kind] for done in runs if kind in done["example"]]
    return [
        of_png(reply) if kind in PAINTED_KINDS and reply is not None else reply for reply in replies
    ]


def plot_replies(rows: dict[str, list[dict]], kind: str):
    """What families painted, after what was given and what was asked for.

    Args:
        rows: {name of a family: its runs}, as many of each.
        kind: of `PAINTED_KINDS`.

    Returns:
        A closed figure; where nothing was painted, a picture is white.
    """
    sample = running(kind)
    nothing = Image.new("RGB", sample.reply.size, "white")
    pictures = {
        fill(name, 16): [
            *sample.pictures,
            sample.reply,
            *(reply or nothing for reply in replies_of(runs, kind)),
        ]
        for name, runs in rows.items()
    }
    seeds = [f"seed {done['seed']}" for done in next(iter(rows.values()))]
    return plot_film(
        pictures,
        [*["given"] * len(sample.pictures), "asked for", *seeds],
        " … ".join(item for item in sample.given if isinstance(item, str)),
    )


def table_of_replies(rows: dict[str, list[dict]], kinds: tuple[str, ...]):
    """What families said, each different reply once, as a table that a notebook shows as text.

    Args:
        rows: as for `plot_replies`.
        kinds: of `TEXT_KINDS`.
    """
    cells = [
        [name, *(" / ".join(dict.fromkeys(replies_of(runs, kind))) for kind in kinds)]
        for name, runs in rows.items()
    ]
    return text_table(["", *(running(kind).given[-1] for kind in kinds)], cells)
