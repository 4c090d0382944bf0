"""Pure figures."""
import matplotlib.pyplot as plt


def plot_losses(log, title):
    """Loss curves of a run's log; one panel per loss."""
    names = [name for name in log[0] if name not in ("step", "rate", "samples_per_second")]
    figure, axes = plt.subplots(1, len(names), figsize=(3.6 * len(names), 2.8), layout="constrained", squeeze=False)
    for axis, name in zip(axes[0], names):
        axis.plot([line["step"] for line in log], [line[name] for line in log])
        axis.set(xlabel="step", ylabel=name, title=f"{title}: {name}", yscale="log")
    plt.close(figure)
    return figure
