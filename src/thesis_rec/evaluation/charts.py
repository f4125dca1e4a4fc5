"""Charts: what is drawn, described by its numbers, and its picture for kedro-viz, the documentation and a thesis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import yaml

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's palette, distinct for colour-blind readers too, and two more.
_COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#999999", "#F0E442", "#8C564B",
)  # fmt: skip
#: Series that share a colour differ by these.
_MARKERS = ("o", "s", "^", "D")


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: Above the axes.
        kind: ``bars`` grouped by the names in x, ``points`` or ``lines``.
        points: What is drawn, as :func:`points` gives it.
        x_label: Quantity and unit.
        y_label: Quantity and unit.
        x_scale: ``linear`` or ``log``.
        y_scale: Likewise.
        marks: Horizontal lines by name, such as a noise ceiling.
    """

    title: str
    kind: Literal["bars", "points", "lines"]
    points: pd.DataFrame
    x_label: str = ""
    y_label: str = ""
    x_scale: str = "linear"
    y_scale: str = "linear"
    marks: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Chart:
    """A figure of one or several panels side by side."""

    title: str
    panels: Sequence[Panel]


def points(found: Mapping[str, Mapping[Any, Mapping[str, Any] | None]]) -> pd.DataFrame:
    """``series, x, mean, low, high`` of series -> x -> interval; NaN where something isn't known."""
    keys = ["mean", "low", "high"]
    rows = [
        (name, x, *((entry or {}).get(key) for key in keys)) for name, row in found.items() for x, entry in row.items()
    ]
    return pd.DataFrame(rows, columns=["series", "x", *keys]).astype(dict.fromkeys(keys, float))


def draw(chart: Chart) -> Figure:
    """The chart as a picture; made without pyplot, so that nothing stays open."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(5.2 * len(chart.panels), 6.4), 4.6), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(chart.panels)))
    names = dict.fromkeys(name for panel in chart.panels for name in panel.points["series"])
    looks = dict(zip(names, cycle(product(_MARKERS, _COLOURS)), strict=False))
    handles: dict[str, Artist] = {}
    for ax, panel in zip(axes, chart.panels, strict=True):
        _draw(ax, panel, looks)
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.suptitle(chart.title)
    if len(handles) > 1:
        columns = min(len(handles), 5)
        figure.legend(
            list(handles.values()), list(handles), loc="outside lower center", ncols=columns, fontsize="small"
        )
    return figure


def _draw(ax: Axes, panel: Panel, looks: dict[str, tuple[str, str]]) -> None:
    groups = [(str(name), part) for name, part in panel.points.groupby("series", sort=False)]
    ticks, width = panel.points["x"].unique().tolist(), 0.85 / max(len(groups), 1)
    for place, (name, part) in enumerate(groups):
        y, (marker, colour) = part["mean"], looks[name]
        down, up = ((part[end] - y).abs().fillna(0.0) for end in ("low", "high"))
        if panel.kind == "bars":
            left = part["x"].map(ticks.index) + (place + 0.5) * width - 0.425
            ax.bar(left, y, width, yerr=[down, up], color=colour, label=name, error_kw={"lw": 0.8})
            continue
        line, size = ("-", 4) if panel.kind == "lines" else ("none", 6)
        ax.plot(part["x"], y, marker, linestyle=line, color=colour, label=name, markersize=size, linewidth=1.2)
        ax.vlines(part["x"], y - down, y + up, color=colour, linewidth=0.8, alpha=0.6)
    for name, height in panel.marks.items():
        ax.axhline(height, color="#444444", linestyle="--", linewidth=0.9)
        ax.annotate(name, (0.01, height), xycoords=("axes fraction", "data"), fontsize=7, va="bottom")
    ax.set(xlabel=panel.x_label, ylabel=panel.y_label, xscale=panel.x_scale, yscale=panel.y_scale)
    if panel.kind == "bars":
        ax.set_xticks(range(len(ticks)), ticks)
    ax.set_title(panel.title, fontsize="medium")
    ax.grid(axis="y", linewidth=0.4, alpha=0.5)
    ax.set_axisbelow(True)


def loss_chart(history: list[dict[str, Any]], title: str, window: int = 10) -> Chart:
    """Training and validation loss over epochs: linear, logarithmic and as a rolling mean.

    Args:
        history: One row per epoch with ``epoch``, ``train_loss`` and, where there was validation, ``val_loss``.
        title: Title of the figure.
        window: Epochs of the rolling mean: of each loss and up to ``window - 1`` before it.
    """
    table = pd.DataFrame(history).set_index("epoch")
    curves = {stage: table[f"{stage}_loss"].dropna() for stage in ("train", "val") if f"{stage}_loss" in table}

    def panel(name: str, smooth: int = 1, y_scale: str = "linear") -> Panel:
        means = {stage: curve.rolling(smooth, min_periods=1).mean() for stage, curve in curves.items()}
        found = {stage: {epoch: {"mean": value} for epoch, value in mean.items()} for stage, mean in means.items()}
        return Panel(name, "lines", points(found), "epoch", "loss", y_scale=y_scale)

    scale = "log" if all((curve > 0).all() for curve in curves.values()) else "linear"
    return Chart(title, [panel("linear"), panel("logarithmic", y_scale=scale), panel("rolling mean", window)])


#: What the figures of an evaluation show, and how methods and policies are named there.
_SHOWN = yaml.safe_load(Path(__file__).with_suffix(".yml").read_text(encoding="utf-8"))

Metrics = Mapping[str, Any]


def evaluation_charts(metrics: Metrics) -> dict[str, Chart]:
    """All figures that the document has data for, by name."""
    ceilings = {
        f"noise ceiling ({protocol.replace('_', ' ')})": float(values["mean"])
        for protocol, values in metrics.get("noise_ceiling", {}).items()
        if values.get("mean") is not None
    }

    def bars(title: str, of: str, figure: str, label: str, marks: Mapping[str, float] | None = None) -> Panel:
        shown = by_method(metrics.get(of, {}), figure, _SHOWN["headline"] if of == "quadrants" else ())
        marks = ceilings if figure == "weighted_tau" else marks or {}
        return Panel(title, "bars", points(shown), "quadrant", label, marks=marks)

    charts = {
        name: Chart(title, [bars(**panel) for panel in panels]) for name, (title, panels) in _SHOWN["charts"].items()
    }
    charts |= {"cost_accuracy": cost_chart(metrics), "probing": probing_chart(metrics)}
    return {name: chart for name, chart in charts.items() if any(len(panel.points) for panel in chart.panels)}


def cost_chart(metrics: Metrics) -> Chart:
    """Weighted tau on unknown datasets against the seconds that ranking all candidates for one dataset takes."""
    cost = {
        name: max(seconds, 1e-7) for name, seconds in metrics.get("cost_seconds", {}).items() if seconds is not None
    }
    panels = []
    for quadrant in ("Q3", "Q4"):
        methods = metrics.get("quadrants", {}).get(quadrant, {})
        table = points({name: {cost[name]: methods[name].get("weighted_tau")} for name in methods if name in cost})
        panels.append(
            Panel(quadrant, "points", table.dropna(subset="mean"), "seconds per dataset", "weighted tau", x_scale="log")
        )
    return Chart("What accuracy costs", panels)


def probing_chart(metrics: Metrics) -> Chart:
    """The frontier of regret and cost: against candidates really run, and against seconds."""
    frontier = {
        _SHOWN["policies"].get(policy, policy): {int(budget): budgets[budget] for budget in sorted(budgets, key=int)}
        for policy, budgets in metrics.get("probing", {}).get("frontier", {}).items()
    }
    regret, seconds = (
        points({name: {budget: entry[key] for budget, entry in row.items()} for name, row in frontier.items()})
        for key in ("regret@1", "seconds")
    )
    known = seconds["mean"].gt(0).groupby(seconds["series"]).transform("all")
    timed = regret.assign(x=seconds["mean"])[known]
    label = "regret@1 (fraction of accuracy)"
    panels = [Panel("candidates probed", "lines", regret, "probes", label)]
    if len(timed):
        panels.append(Panel("time spent", "lines", timed, "seconds", label, x_scale="log"))
    return Chart("What a few probes are worth on a new dataset", panels)


def external_chart(metrics: Metrics) -> Chart:
    """Weighted tau and regret of every method on a published table, best first."""
    panels = []
    for title, name, rises in (("weighted tau", "weighted_tau", False), ("regret@1", "regret@1", True)):
        table = points({title: {method: entry.get(name) for method, entry in metrics.get("methods", {}).items()}})
        ordered = table.dropna(subset="mean").sort_values("mean", ascending=rises, kind="stable")
        panels.append(Panel(title, "bars", ordered, "", title))
    return Chart(f"Published table {metrics.get('benchmark', '')}: every target left out in turn", panels)


def by_method(found: Metrics, figure: str, only: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Method -> quadrant -> interval of one figure, or None; of some methods in their order, or of all."""
    there = dict.fromkeys(name for methods in found.values() for name in methods)
    names = [name for name in only or there if name in there]
    return {name: {q: methods.get(name, {}).get(figure) for q, methods in found.items()} for name in names}
