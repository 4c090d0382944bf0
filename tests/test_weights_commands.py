"""Command lines built from dataclasses: types, defaults, choices, help and refused values."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from minidream.weights.commands import option, parse, parser_for


@dataclass(frozen=True)
class Size:
    """A dataclass inside the other one, which checks itself."""

    width: int = 3
    height: int = option(5, "in cells")

    def __post_init__(self):
        if self.width * self.height < 1:
            raise ValueError(f"{self.width} by {self.height} cells are none")


@dataclass(frozen=True, kw_only=True)
class Options:
    """One field of every type."""

    names: tuple[str, ...] = option(
        help="which of them", positional=True, choices=["one", "two"], metavar="NAME"
    )
    size: Size
    seeds: tuple[int, ...] = option((0, 1, 2), "a run for each")
    save_seconds: float = option(1.5, "how often, in 50% of all cases")
    label: str | None = option(None, "a name for the run")
    out: Path = Path("runs")
    quiet: bool = option(False, "no progress bar")


def read(*arguments: str) -> Options:
    return parse(parser_for(Options, "python -m it", "Does it."), Options, list(arguments))


def test_what_is_not_given_has_its_default():
    assert read("two") == Options(names=("two",), size=Size(3, 5))


def test_every_type_is_read():
    arguments = "one two --width 7 --seeds 4 5 --save-seconds 2 --label x --out a/b --quiet".split()
    assert read(*arguments) == Options(
        names=("one", "two"),
        size=Size(7, 5),
        seeds=(4, 5),
        save_seconds=2.0,
        label="x",
        out=Path("a/b"),
        quiet=True,
    )


def test_a_folder_may_begin_at_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read("one", "--out", "~/runs").out == tmp_path / "runs"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "required: NAME"),
        (["three"], "invalid choice: 'three'"),
        (["one", "--width", "wide"], "argument --width: invalid int value: 'wide'"),
        (["one", "--height", "0"], "3 by 0 cells are none"),
        (["one", "--depth", "1"], "unrecognized arguments"),
        (["one", "--seeds"], "expected at least one argument"),
    ],
)
def test_what_does_not_fit_ends_with_a_usage_message(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        read(*arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and message in error
    assert error.startswith("usage: python -m it ")


def test_help_names_every_option_with_its_default(capsys):
    with pytest.raises(SystemExit) as stopped:
        read("--help")
    lines = " ".join(capsys.readouterr().out.split())
    assert stopped.value.code == 0 and "Does it." in lines
    for line in (
        "NAME which of them",
        "--width WIDTH (default: 3)",
        "--height HEIGHT in cells (default: 5)",
        "a run for each (default: 0 1 2)",
        "how often, in 50% of all cases (default: 1.5)",
        "--label LABEL a name for the run --out",
        "--out OUT (default: runs)",
        "--quiet no progress bar",
    ):
        assert line in lines, line


def test_a_positional_value_with_a_default_and_a_required_option():
    @dataclass(frozen=True)
    class Other:
        folder: Path = option(help="where", metavar="DIR")
        name: str = option("one", "which", positional=True)

    parser = parser_for(Other, "python -m it", "Does it.")
    assert parse(parser, Other, ["--folder", "x"]) == Other(Path("x"), "one")
    assert parse(parser, Other, ["two", "--folder", "x"]) == Other(Path("x"), "two")
    with pytest.raises(SystemExit):
        parse(parser, Other, ["two"])
