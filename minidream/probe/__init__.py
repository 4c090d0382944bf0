"""Probes: they watch the real forward pass through hooks and processors, and take them off again, whatever happens."""

from .image import ImageMaps, watch_image
from .input import Trace, dream_attention, watch_input
from .hops import two_hop

__all__ = ["ImageMaps", "Trace", "dream_attention", "two_hop", "watch_image", "watch_input"]
