"""What results depend on: attributions over words and patches."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from .attention import line_width
from .drawing import figure_function, kind_of, short


@figure_function
def plot_attributions(attributions: dict, title: str, label: str) -> Figure:
    """What each word, and each patch, contributes to a target: a row for each attribution, signed. The words of all
    rows have one scale, the patches of each image one of their own.

    How far the contributions are from adding up to what there is to explain stands beside each name, as a share of it.

    Args:
        attributions: {name: `probe.Attribution`}, at least one, all of the same inputs.
        title: what there is to see.
        label: what a number is, with its unit.

    Returns:
        For each attribution the axes of its words, then of each image: bare, and with the contributions of its patches.

    Raises:
        ValueError: without attributions, or if their inputs differ.
    """
    rows = list(attributions.values())
    if not rows or any(row.inputs != rows[0].inputs for row in rows):
        raise ValueError(
            f"{len(rows)} attributions were given: at least one is needed, and all of the same inputs"
        )
    inputs = rows[0].inputs
    words = [place for place, label in enumerate(inputs) if kind_of(label) == "words"]
    patches: dict[int, list[int]] = {}  # of each image, where they stand among the inputs
    for place, entry in enumerate(inputs):
        if isinstance(entry, tuple):
            patches.setdefault(entry[0], []).append(place)
    tops = {
        image: max(row.values[places].abs().max().item() for row in rows) or 1.0
        for image, places in patches.items()
    }
    both = np.stack([row.values[words].numpy() for row in rows])
    reach = (both.max() - both.min()) or 1.0
    figure, axes = plt.subplots(
        len(rows),
        1 + 2 * len(patches),
        figsize=(9, 1.35 * len(rows) + 1.25),
        layout="constrained",
        squeeze=False,
        width_ratios=[6 - 1.6 * min(2, len(patches))] + [1] * 2 * len(patches),
    )
    for number, (axis, (name, row)) in enumerate(zip(axes[:, 0], attributions.items())):
        values = row.values[words].numpy()
        axis.bar(
            range(len(words)), values, width=0.72, color=np.where(values < 0, "#0072B2", "#D55E00")
        )
        axis.axhline(0, color="#444444", linewidth=0.7)
        axis.set_ylim(min(both.min(), 0) - 0.08 * reach, max(both.max(), 0) + 0.08 * reach)
        axis.set_title(
            f"{name}: {abs(row.delta / (row.whole - row.nothing)):.0%} not accounted for"
        )
        axis.set_xticks(
            range(len(words)),
            [short(inputs[place]) for place in words] if number == len(rows) - 1 else [],
            rotation=35,
            ha="right",
            rotation_mode="anchor",
        )
        for pair, (image, places) in enumerate(patches.items()):
            bare, spread = axes[number, 1 + 2 * pair : 3 + 2 * pair]
            map_ = row.values[places].reshape(inputs[places[-1]][1] + 1, -1).numpy()
            bare.imshow(row.images[image])
            spread.pcolormesh(
                map_,
                cmap="RdBu_r",
                vmin=-tops[image],
                vmax=tops[image],
                edgecolors="white",
                linewidth=line_width(len(map_), 1.0),
            )
            spread.set(aspect="equal", ylim=(len(map_), 0))
            spread.set_title(f"patches, ±{tops[image]:.2g}")
            for other in (bare, spread):
                other.set_axis_off()
    figure.supylabel(label, fontsize=9, color="#444444")
    figure.suptitle(title, x=0.01, ha="left")
    return figure
