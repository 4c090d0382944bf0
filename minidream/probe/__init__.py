"""Probes: they watch the real forward pass through hooks, and remove the hooks whatever happens.

| file | what it answers |
|---|---|
| `watch` | what did any module of the model return? |
| `llm_attention` | where does each dream query look in the input? |
| `unet_attention` | which dream query does each latent cell look at? |
| `two_hop` | both joined: which word or patch does each latent cell look at? |
| `denoising` | what does the picture look like at each step? |
| `residual_stream` | what have the dream queries become after each layer? |
| `lens` | which picture, or which next word, would each layer give? |
| `linear_probes` | which attributes can be read from a query after each layer? |
| `points`, `positions` | where in the model, and in a prompt, can one record and act? |
| `hooks`, `visits` | record what passes a point, or change it |
| `interventions` | does it matter what is there? Ablate, patch, swap or steer it. |
| `cutting` | does it matter who sees whom? |
| `effects` | what did an intervention change in the picture? |
| `attribution`, `targets`, `answers` | what does a loss, a verdict or an answer depend on? |
| `attribution_patching` | what would patching do everywhere, from one gradient? |
| `map_scores` | do maps agree with the truth, and with one another? |
| `explorers` | widgets that show some of this interactively |
| `indices` | which queries or positions did a user name? |

Each acts only in the thread that opened its `with` block, also on compiled models, which run as
plain code inside of it: see `watch`.
"""

from .answers import answer_attribution
from .attribution import Attribution, feature_ablation, integrated_gradients
from .attribution_patching import attribution_patching
from .cutting import cut
from .denoising import Denoising, watch_denoising
from .effects import judged, on_cells, pixel_change, true_masks, verdict_changes
from .hooks import hooks, record, run_with_cache
from .interventions import ablate, mean_at, patch, steer, swap
from .lens import lens, lens_states, logit_lens
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
from .points import points
from .positions import Positions, positions
from .residual_stream import query_stream
from .targets import DenoisingTarget, VerdictTarget
from .two_hop import two_hop
from .unet_attention import ImageMaps, watch_image
from .watch import watch

__all__ = [
    "Attribution",
    "Denoising",
    "DenoisingTarget",
    "ImageMaps",
    "Positions",
    "ProbeResult",
    "Trace",
    "VerdictTarget",
    "ablate",
    "answer_attribution",
    "attribution_patching",
    "curve_area",
    "cut",
    "dream_attention",
    "feature_ablation",
    "hooks",
    "integrated_gradients",
    "judged",
    "lens",
    "lens_states",
    "linear_probes",
    "logit_lens",
    "mass_inside",
    "mean_at",
    "on_cells",
    "overlap",
    "patch",
    "pixel_change",
    "points",
    "points_at",
    "positions",
    "query_stream",
    "rank_correlation",
    "record",
    "run_with_cache",
    "separation",
    "stability",
    "steer",
    "swap",
    "true_masks",
    "two_hop",
    "verdict_changes",
    "watch",
    "watch_denoising",
    "watch_image",
    "watch_input",
]
