"""Probes: they watch the real forward pass through hooks and processors, and take them off again, whatever happens.

`input` and `image` record the two hops, `hops` joins them; `stream` and `lens` look between the layers, `linear` asks what
can be read there; `interventions` change what queries hold, `effects` say what that did; `attribution` asks captum;
`scores` and `similarity` turn maps into numbers.
"""

from .attribution import (
    Attribution,
    DenoisingTarget,
    VerdictTarget,
    answer_attribution,
    feature_ablation,
    integrated_gradients,
)
from .effects import judged, on_cells, pixel_change, true_masks, verdict_changes
from .interventions import ablate, patch, steer, swap
from .lens import lens, lens_states
from .linear_probes import ProbeResult, linear_probes
from .llm_attention import Trace, dream_attention, watch_input
from .map_scores import (
    curve_area,
    mass_inside,
    overlap,
    points_at,
    rank_correlation,
    separation,
    stability,
)
from .residual_stream import changed, query_stream
from .two_hop import two_hop
from .unet_attention import ImageMaps, watch_image

__all__ = [
    "Attribution",
    "DenoisingTarget",
    "ImageMaps",
    "ProbeResult",
    "Trace",
    "VerdictTarget",
    "ablate",
    "answer_attribution",
    "changed",
    "curve_area",
    "dream_attention",
    "feature_ablation",
    "integrated_gradients",
    "judged",
    "lens",
    "lens_states",
    "linear_probes",
    "mass_inside",
    "on_cells",
    "overlap",
    "patch",
    "pixel_change",
    "points_at",
    "query_stream",
    "rank_correlation",
    "separation",
    "stability",
    "steer",
    "swap",
    "true_masks",
    "two_hop",
    "verdict_changes",
    "watch_image",
    "watch_input",
]
