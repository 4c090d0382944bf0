"""The helpers for command lines, as training and the studies import them."""

from ..weights.commands import option, parse, parser_for

__all__ = ["option", "parse", "parser_for"]
