"""Pure figures: functions take data, compute nothing new, and return a closed `Figure`, which a notebook shows once.

Attention is drawn in viridis, nearest neighbour, with the cells visible. Colours of kinds are those of `drawing.KINDS`.
"""

from .attention import plot_heads, plot_patch_layers, plot_trace, plot_two_hop, plot_word_layers
from .curves import (
    plot_by_count,
    plot_costs,
    plot_gains,
    plot_losses,
    plot_seed_losses,
    plot_spreads,
)
from .drawing import shares
from .exploring import (
    groups,
    hover_two_hops,
    plot_ablation,
    plot_choice,
    plot_denoising,
    plot_denoising_steps,
    plot_hop,
    plot_single_ablations,
    sources,
)
from .instructing import plot_changes, plot_kept
from .interleaving import plot_conditions, plot_origins, plot_sight
from .matrices import (
    plot_curves,
    plot_matrices,
    plot_next_words,
    plot_token_bars,
    plot_turns,
    plot_writing,
)
from .painting import plot_film, plot_latents, plot_lines, plot_looks, plot_schedule, plot_shares
from .pictures import plot_boxes, plot_document, plot_pictures
from .probing import plot_attributions
from .seeing import plot_contrast, plot_patch_words, plot_patches, plot_scores
from .sequences import (
    TokenStrip,
    batch_strips,
    plot_distances,
    plot_scene,
    plot_strips,
    plot_token_strip,
    token_strip,
)
from .tables import in_words, plot_sizes, plot_stacks, plot_table, text_table
