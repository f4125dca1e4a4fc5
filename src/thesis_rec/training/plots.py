"""Loss curves of a run, as an interactive figure and as a picture for a thesis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure
    from plotly.graph_objects import Figure

_VIEWS = ("linear", "logarithmic", "rolling mean")
_COLOURS = {"train": "#1f77b4", "val": "#d62728"}


def rolling_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of each value and up to ``window - 1`` values before it.

    Args:
        values: (N,) numbers.
        window: Number of values to average.

    Returns:
        (N,) float64.
    """
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(values, dtype=np.float64))])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _curves(history: list[dict[str, Any]], window: int) -> list[tuple[str, int, np.ndarray, np.ndarray]]:
    """(stage, view, epochs, values) of every curve."""
    found = []
    for stage in ("train", "val"):
        rows = [(row["epoch"], row[f"{stage}_loss"]) for row in history if f"{stage}_loss" in row]
        if not rows:
            continue
        epochs, losses = (np.asarray(column) for column in zip(*rows, strict=True))
        found += [(stage, 0, epochs, losses), (stage, 1, epochs, losses)]
        found.append((stage, 2, epochs, rolling_mean(losses, window)))
    return found


def loss_figure(history: list[dict[str, Any]], title: str, window: int = 10) -> Figure:
    """Training and validation loss over epochs: linear, logarithmic and as a rolling mean.

    Args:
        history: One row per epoch with ``epoch``, ``train_loss`` and, where there was validation, ``val_loss``.
        title: Title of the figure.
        window: Epochs of the rolling mean.
    """
    from plotly.graph_objects import Scatter
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=3, subplot_titles=_VIEWS)
    for stage, view, epochs, losses in _curves(history, window):
        figure.add_trace(
            Scatter(
                x=epochs.tolist(),
                y=losses.tolist(),
                name=stage,
                legendgroup=stage,
                showlegend=view == 0,
                line={"color": _COLOURS[stage]},
            ),
            row=1,
            col=view + 1,
        )
    if all(losses.min() > 0 for _, view, _, losses in _curves(history, window) if view == 1):
        figure.update_yaxes(type="log", row=1, col=2)
    figure.update_xaxes(title_text="epoch")
    figure.update_yaxes(title_text="loss", row=1, col=1)
    figure.update_layout(title=title, template="plotly_white")
    return figure


def loss_picture(history: list[dict[str, Any]], title: str, window: int = 10) -> MatplotlibFigure:
    """The same three views as :func:`loss_figure`, drawn by Matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.2), layout="constrained")
    axes = figure.subplots(1, 3)
    for stage, view, epochs, losses in _curves(history, window):
        axes[view].plot(epochs, losses, label=stage, color=_COLOURS[stage], linewidth=1.2)
        if view == 1 and losses.min() > 0:
            axes[view].set_yscale("log")
    for axis, title_of_view in zip(axes, _VIEWS, strict=True):
        axis.set_title(title_of_view)
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("loss")
    axes[0].legend()
    figure.suptitle(title)
    return figure
