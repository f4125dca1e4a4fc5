"""Charts: what is drawn, described by its numbers, and its picture for kedro-viz, the documentation and a thesis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Number = float | None

# Okabe & Ito's palette: distinct for colour-blind readers too.
_COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#000000",
    "#999999",
    "#F0E442",
    "#8C564B",
)


@dataclass(frozen=True)
class Series:
    """Points of one name: ``x`` (names or numbers), ``y`` and, where known, interval bounds ``low`` and ``high``."""

    name: str
    x: Sequence[str] | Sequence[float]
    y: Sequence[Number]
    low: Sequence[Number] = ()
    high: Sequence[Number] = ()
    labels: Sequence[str] = ()


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: Above the axes.
        kind: ``bars`` grouped by the names in x, ``points`` or ``lines``.
        series: What is drawn.
        x_label: Quantity and unit.
        y_label: Quantity and unit.
        log_x: Whether x is logarithmic.
        log_y: Whether y is.
        marks: Horizontal lines by name, such as a noise ceiling.
    """

    title: str
    kind: Literal["bars", "points", "lines"]
    series: Sequence[Series]
    x_label: str = ""
    y_label: str = ""
    log_x: bool = False
    log_y: bool = False
    marks: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Chart:
    """A figure of one or several panels side by side."""

    title: str
    panels: Sequence[Panel]


def _errors(series: Series) -> tuple[list[float], list[float]] | None:
    """Distances from y to its bounds, 0 where a bound is unknown."""
    if not series.low or not series.high:
        return None
    y, low, high = (np.array(part, dtype=float) for part in (series.y, series.low, series.high))
    down, up = (np.maximum(np.nan_to_num(gap), 0.0).tolist() for gap in (y - low, high - y))
    return down, up


def draw(chart: Chart) -> Figure:
    """The chart as a picture; made without pyplot, so that nothing stays open."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(5.2 * len(chart.panels), 6.4), 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(1, len(chart.panels)))
    colours = _colours(chart)
    handles: dict[str, Artist] = {}
    for ax, panel in zip(axes, chart.panels, strict=True):
        _draw(ax, panel, colours)
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.suptitle(chart.title)
    if len(handles) > 1:
        columns = min(len(handles), 5)
        figure.legend(
            list(handles.values()), list(handles), loc="outside lower center", ncols=columns, fontsize="small"
        )
    return figure


def _draw(ax: Axes, panel: Panel, colours: dict[str, str]) -> None:
    names = list(dict.fromkeys(str(x) for series in panel.series for x in series.x)) if panel.kind == "bars" else []
    width = 0.85 / max(len(panel.series), 1)
    for place, series in enumerate(panel.series):
        y = np.array(series.y, dtype=float)
        errors = _errors(series)
        colour = colours[series.name]
        if panel.kind == "bars":
            left = np.array([names.index(str(x)) for x in series.x]) + (place + 0.5) * width - 0.425
            bounds = None if errors is None else np.array(errors)
            ax.bar(left, y, width, yerr=bounds, color=colour, label=series.name, error_kw={"lw": 0.8})
            continue
        x = np.array(series.x, dtype=float)
        style = "o-" if panel.kind == "lines" else "o"
        ax.plot(x, y, style, color=colour, label=series.name, markersize=4, linewidth=1.2)
        if errors is not None:
            ax.vlines(x, y - np.array(errors[0]), y + np.array(errors[1]), color=colour, linewidth=0.8, alpha=0.6)
        for at, height, text in zip(x, y, series.labels, strict=False):
            ax.annotate(text, (at, height), textcoords="offset points", xytext=(3, 3), fontsize=7)
    for name, height in panel.marks.items():
        ax.axhline(height, color="#444444", linestyle="--", linewidth=0.9)
        ax.annotate(name, (0.01, height), xycoords=("axes fraction", "data"), fontsize=7, va="bottom")
    if panel.kind == "bars":
        ax.set_xticks(range(len(names)), names)
    if panel.log_x:
        ax.set_xscale("log")
    if panel.log_y:
        ax.set_yscale("log")
    ax.set_title(panel.title, fontsize="medium")
    ax.set_xlabel(panel.x_label)
    ax.set_ylabel(panel.y_label)
    ax.grid(axis="y", linewidth=0.4, alpha=0.5)
    ax.set_axisbelow(True)


def _colours(chart: Chart) -> dict[str, str]:
    names = dict.fromkeys(series.name for panel in chart.panels for series in panel.series)
    return {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(names)}


def loss_chart(history: list[dict[str, Any]], title: str, window: int = 10) -> Chart:
    """Training and validation loss over epochs: linear, logarithmic and as a rolling mean.

    Args:
        history: One row per epoch with ``epoch``, ``train_loss`` and, where there was validation, ``val_loss``.
        title: Title of the figure.
        window: Epochs of the rolling mean: of each loss and up to ``window - 1`` before it.
    """
    table = pd.DataFrame(history).set_index("epoch")
    curves = {stage: table[f"{stage}_loss"].dropna() for stage in ("train", "val") if f"{stage}_loss" in table}

    def panel(name: str, smooth: int = 1, log_y: bool = False) -> Panel:
        means = {stage: curve.rolling(smooth, min_periods=1).mean() for stage, curve in curves.items()}
        series = [Series(stage, mean.index.tolist(), mean.tolist()) for stage, mean in means.items()]
        return Panel(name, "lines", series, "epoch", "loss", log_y=log_y)

    positive = all((curve > 0).all() for curve in curves.values())
    return Chart(title, [panel("linear"), panel("logarithmic", log_y=positive), panel("rolling mean", window)])
