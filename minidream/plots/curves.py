"""What changes while a model learns."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from ..drawing import figure_function


@figure_function
def plot_losses(log: list[dict], title: str) -> Figure:
    """Loss curves of a run's log, one panel per loss: every line thinly, a moving average boldly.

    Args:
        log: one dict per line, as `train.fit` returns: step, the losses, rate, samples_per_second. At least one line.
        title: of the run.
    """
    names = [name for name in log[0] if name not in ("step", "rate", "samples_per_second")]
    figure, axes = plt.subplots(1, len(names), figsize=(3.6 * len(names), 2.8), layout="constrained", squeeze=False)
    steps = np.array([line["step"] for line in log])
    window = max(1, len(log) // 25)
    for axis, name in zip(axes[0], names):
        values = np.array([line[name] for line in log], dtype=float)
        axis.plot(steps, values, linewidth=0.7, alpha=0.45)
        if window > 1:      # only whole windows: at the ends an average over fewer lines would jump
            smooth = np.convolve(values, np.ones(window) / window, mode="valid")
            axis.plot(steps[window // 2:][:len(smooth)], smooth, color="C0")
        axis.set(xlabel="step", ylabel=name, title=f"{title}: {name}", yscale="log" if (values > 0).all() else "linear")
    return figure
