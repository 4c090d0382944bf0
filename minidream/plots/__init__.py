"""Figures, in files by what they draw: attention, sequences, pictures, curves, tables.

They are pure functions: they take data, compute nothing new, and return a closed `Figure`, which a
notebook shows once. It has the package's style, whatever the user's is. Maps of attention are drawn
in viridis with their cells visible; tokens have the colours of `tokens.TOKEN_COLOURS`.
"""

from .attention import plot_trace
from .attention_layers import plot_heads, plot_patch_layers, plot_word_layers
from .bars import (
    in_words,
    plot_attributions,
    plot_next_words,
    plot_sizes,
    plot_stacks,
    plot_token_bars,
    plot_writing,
)
from .curves import plot_curves, plot_losses, plot_schedule, plot_seed_losses
from .hover import hover_two_hops, two_hop_page
from .picture_parts import (
    plot_distances,
    plot_latents,
    plot_patch_words,
    plot_patches,
    plot_scene,
)
from .pictures import (
    plot_ablation,
    plot_boxes,
    plot_choice,
    plot_denoising,
    plot_denoising_steps,
    plot_document,
    plot_film,
    plot_pictures,
)
from .sequences import plot_origins, plot_strips, plot_token_strip, plot_turns
from .spreads import (
    plot_answers,
    plot_by_count,
    plot_costs,
    plot_gains,
    plot_shares,
    plot_spreads,
)
from .table_groups import plot_table_groups
from .tables import (
    plot_changes,
    plot_matrices,
    plot_scores,
    plot_table,
    plot_visibility,
    text_table,
)
from .token_strip import TokenStrip, batch_strips, token_strip
from .tokens import shares
from .two_hops import groups, plot_cell_attention, plot_hop, plot_two_hop, sources
