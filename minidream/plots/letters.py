"""Letters that the style's font lacks are drawn in other fonts, if the machine has any."""

import functools

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

GENERIC = ("serif", "sans-serif", "cursive", "fantasy", "monospace")
# Fonts that have a glyph for every character, but only a box; and pictures in place of outlines.
WITHOUT_LETTERS = ("last resort", "lastresort", "color emoji")


def configured_families() -> list[str]:
    """The font families of the current settings; a generic one is replaced by its members."""
    families = []
    for name in plt.rcParams["font.family"]:
        families += plt.rcParams[f"font.{name}"] if name in GENERIC else [name]
    return families


def add_fallbacks(figure: Figure, configured: list[str]) -> None:
    """Adds fonts for the characters of a figure that its own font lacks.

    matplotlib looks for each glyph in all families of a text, one after the other.

    Args:
        figure: in whose texts.
        configured: families that come before all others, installed or not.
    """
    texts = figure.findobj(Text)
    written = frozenset().union(*(text.get_text() for text in texts))
    missing = frozenset(filter(str.isprintable, written)) - _own_characters()
    if missing:
        families = fallback_families(missing, configured)
        for text in texts:
            text.set_fontfamily([*text.get_fontfamily(), *families])


def fallback_families(characters: frozenset[str], configured: list[str]) -> list[str]:
    """Installed families that together have the characters, as far as there are any.

    Args:
        characters: to be drawn.
        configured: families that come before all others, installed or not.
    """
    files = {}
    for entry in sorted(fontManager.ttflist, key=lambda entry: entry.style == "normal"):
        if not any(words in entry.name.lower() for words in WITHOUT_LETTERS):
            files[entry.name] = entry.fname  # an upright one, if there is one

    def rank(name: str) -> tuple:
        return -len(_characters_in(files[name], characters)), "sans" not in name.lower(), name

    families, missing = [], characters
    for name in [*(name for name in configured if name in files), *sorted(files, key=rank)]:
        found = _characters_in(files[name], missing)
        if found:
            families.append(name)
            missing -= found
    return families


@functools.cache
def _own_characters() -> frozenset[str]:
    """Those that the style's font has in both of the weights that figures use."""
    both = [
        get_font(findfont(FontProperties(weight=weight))).get_charmap()
        for weight in ("normal", "bold")
    ]
    return frozenset(map(chr, both[0].keys() & both[1].keys()))


@functools.cache
def _characters_in(file: str, characters: frozenset[str]) -> frozenset[str]:
    """Those of some characters that a font has."""
    known = get_font(file).get_charmap()
    return frozenset(character for character in characters if ord(character) in known)
