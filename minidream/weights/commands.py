"""Command lines from dataclasses: a frozen dataclass lists the options, with types and help."""

import argparse
import dataclasses
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

from .files import as_path


def option(
    default: Any = dataclasses.MISSING,
    help: str = "",
    positional: bool = False,
    choices: Sequence[str] | None = None,
    metavar: str | None = None,
) -> Any:
    """A field of a dataclass of options.

    Args:
        default: without one, the option is required. A field of several values has a tuple here.
        help: what `--help` says about it; the default is added to it.
        positional: the value is given without `--name` before it.
        choices: the values that are allowed; None allows any.
        metavar: the name of the value in `--help`.
    """
    metadata = {"help": help, "positional": positional, "choices": choices, "metavar": metavar}
    return dataclasses.field(default=default, metadata=metadata)


def parser_for(options_class: type, prog: str, description: str) -> argparse.ArgumentParser:
    """The parser of a command line, built from a dataclass.

    A field `save_seconds: float` becomes `--save-seconds`. The type of a field decides how it is
    given: a bool is a switch that is off by default, a `tuple[int, ...]` takes one or more values,
    a `Path` may begin with "~", a `str | None` may be left out, and a field that is itself a
    dataclass contributes its own fields. Fields may be plain ones or made with `option`.

    Args:
        options_class: the dataclass.
        prog: the command as it is typed, "python -m minidream.train".
        description: what the command does, for `--help`.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description)
    for field, kind in fields_of(options_class):
        if dataclasses.is_dataclass(kind):
            for inner_field, inner_kind in fields_of(kind):
                add_option(parser, inner_field, inner_kind)
        else:
            add_option(parser, field, kind)
    return parser


def parse(parser: argparse.ArgumentParser, options_class: type, arguments: list[str] | None = None):
    """Reads a command line into an instance of the dataclass that the parser was built from.

    Args:
        parser: made with `parser_for`.
        options_class: the dataclass.
        arguments: None takes those of the process.

    Raises:
        SystemExit: with status 2 and a usage message, for options that argparse or the dataclass
            (by a ValueError) refuses.
    """
    values = vars(parser.parse_args(arguments))
    try:
        return filled(options_class, values)
    except ValueError as error:
        parser.error(str(error))


def filled(options_class: type, values: dict[str, Any]):
    """An instance of a dataclass from its fields' values; dataclasses inside are filled too."""
    content = {}
    for field, kind in fields_of(options_class):
        if dataclasses.is_dataclass(kind):
            content[field.name] = filled(kind, values)
        else:
            value = values[field.name]
            content[field.name] = tuple(value) if isinstance(value, list) else value
    return options_class(**content)


def fields_of(options_class: type) -> list[tuple[dataclasses.Field, Any]]:
    """The fields of a dataclass with their types."""
    kinds = get_type_hints(options_class)
    return [(field, kinds[field.name]) for field in dataclasses.fields(options_class)]


def add_option(parser: argparse.ArgumentParser, field: dataclasses.Field, kind: Any) -> None:
    """Adds one field to a parser."""
    required = field.default is dataclasses.MISSING
    about = field.metadata.get("help", "")
    dashed = f"--{field.name.replace('_', '-')}"
    if kind is bool:
        parser.add_argument(dashed, action="store_true", help=about)
        return
    settings: dict[str, Any] = {
        "choices": field.metadata.get("choices"),
        "metavar": field.metadata.get("metavar"),
        "default": None if required else field.default,
    }
    several = getattr(kind, "__origin__", None) is tuple
    optional = isinstance(kind, types.UnionType)
    kind = get_args(kind)[0] if several or optional else kind
    settings["type"] = as_path if kind is Path else kind
    if not required and field.default is not None:
        shown = " ".join(map(str, field.default)) if several else str(field.default)
        about = f"{about} (default: {shown})".strip()
    settings["help"] = about.replace("%", "%%")
    if field.metadata.get("positional"):
        nargs = "+" if several else None if required else "?"
        parser.add_argument(field.name, nargs=nargs, **settings)
    else:
        nargs = "+" if several else None
        parser.add_argument(dashed, nargs=nargs, required=required, **settings)
