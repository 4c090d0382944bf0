"""The toy world: an unlimited supply of small, exact scenes, so that pictures can be checked."""

from ..images import to_pil, to_tensor
from .judge import Judge, Reading, read_by_colour
from .language import Phrase, describe, parse_caption, parse_prompt
from .questions import ask
from .render import render
from .scenes import (
    BACKGROUNDS,
    COLOURS,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    is_held_out,
    relation_between,
    sample_scene,
)
from .stories import Story, edit_of, sample_copy, sample_edit, sample_story, sample_subject

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "RELATIONS",
    "SHAPES",
    "SIZES",
    "Judge",
    "Phrase",
    "Reading",
    "Scene",
    "Story",
    "SceneObject",
    "ask",
    "describe",
    "edit_of",
    "is_held_out",
    "parse_caption",
    "parse_prompt",
    "read_by_colour",
    "relation_between",
    "render",
    "sample_copy",
    "sample_edit",
    "sample_scene",
    "sample_story",
    "sample_subject",
    "to_pil",
    "to_tensor",
]
