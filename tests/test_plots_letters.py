"""Letters that the style's font lacks are drawn in fonts of the machine, the user's first."""

import matplotlib
import matplotlib.pyplot as plt
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager
from PIL import Image

from minidream.plots import plot_film, plot_pictures
from minidream.plots.letters import configured_families

RED = Image.new("RGB", (4, 4), "red")


def square():
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for corner in ((100, 700), (800, 700), (800, 0)):
        pen.lineTo(corner)
    pen.closePath()
    return pen.glyph()


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a font that has the given characters and no others; no other fonts are there."""
    own = [
        font for font in fontManager.ttflist if font.fname.startswith(matplotlib.get_data_path())
    ]
    monkeypatch.setattr(fontManager, "ttflist", own)

    def build(family, characters):
        glyphs = {".notdef": square()} | {f"u{ord(one)}": square() for one in characters}
        font = FontBuilder(1000, isTTF=True)
        font.setupGlyphOrder(list(glyphs))
        font.setupCharacterMap({ord(one): f"u{ord(one)}" for one in characters})
        font.setupGlyf(glyphs)
        font.setupHorizontalMetrics({name: (900, 100) for name in glyphs})
        font.setupHorizontalHeader(ascent=800, descent=-200)
        font.setupNameTable({"familyName": family, "styleName": "Regular"})
        font.setupOS2(sTypoAscender=800, usWeightClass=400)
        font.setupPost()
        path = tmp_path / f"{family}.ttf"
        font.save(path)
        fontManager.addfont(path)

    return build


def families_of(figure):
    """The families of all texts of a figure, which are the same for all."""
    (families,) = {tuple(text.get_fontfamily()) for text in figure.findobj(plt.Text)}
    return list(families)


@pytest.fixture
def strict(recwarn, caplog):
    """Checks at the end that drawing gave no warning: none about a glyph, none about a family."""
    yield
    assert not recwarn.list and not caplog.records


@pytest.mark.usefixtures("strict")
def test_a_prompt_is_drawn_in_a_font_of_the_machine(install):
    install("Square Sans", "一只猫")
    figure = plot_pictures([RED], ["a cat, 一只猫"], suptitle="猫")
    figure.draw_without_rendering()
    assert families_of(figure) == ["DejaVu Sans", "Square Sans"]


@pytest.mark.usefixtures("strict")
def test_names_of_columns_rows_and_ticks_are_drawn_as_well(install):
    install("Square Sans Two", "一只猫")
    figure = plot_film({"一": [RED]}, ["只"], "a cat", "猫")
    figure.draw_without_rendering()
    assert families_of(figure) == ["DejaVu Sans", "Square Sans Two"]


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize(
    "settings",
    [
        {"font.family": ["No Such Font", "Users Choice"]},
        {"font.family": ["Users Choice"]},
        {"font.sans-serif": ["No Such Font", "Users Choice", "DejaVu Sans"]},
        {"font.family": ["serif", "sans-serif"], "font.serif": ["Users Choice"]},
    ],
)
def test_the_users_own_fonts_come_before_others(install, settings):
    install("A Larger Sans", "一只猫狗")
    install("Users Choice", "一只")
    with matplotlib.rc_context(settings):
        figure = plot_pictures([RED], ["一只 and 猫"])
        figure.draw_without_rendering()
    assert families_of(figure) == ["DejaVu Sans", "Users Choice", "A Larger Sans"]


@pytest.mark.usefixtures("strict")
def test_other_figures_have_the_styles_font_alone(install):
    install("Square Sans Three", "ab一")
    with matplotlib.rc_context({"font.family": ["Square Sans Three"]}):
        figure = plot_pictures([RED], ["ab\nβ, ж, ≥ and “≠”"])
        figure.draw_without_rendering()
    assert families_of(figure) == ["DejaVu Sans"]


def test_without_a_font_matplotlib_says_which_glyph_is_missing(install):
    figure = plot_pictures([RED], ["猫"])
    with pytest.warns(UserWarning, match="CJK UNIFIED IDEOGRAPH-732B"):
        figure.draw_without_rendering()
    assert families_of(figure) == ["DejaVu Sans"]


def test_generic_families_are_their_members():
    with matplotlib.rc_context({"font.family": ["Mine", "fantasy"], "font.fantasy": ["A", "B"]}):
        assert configured_families() == ["Mine", "A", "B"]
