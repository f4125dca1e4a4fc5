"""The evaluation's figures, from the document ``evaluation_metrics`` alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from thesis_rec.evaluation.charts import Chart, Panel, Series

#: Methods of the overview figures, in this order; the tables hold all of them.
HEADLINE = (
    "recommender",
    "static_mean_z",
    "nearest_dataset",
    "matrix_factorisation",
    "kernel_ridge",
    "boosted_trees",
    "learned_token",
    "logme",
)

_POLICY_NAMES = {
    "active": "active probing",
    "best_observed": "active probing, best of those tried",
    "own_top": "predicted top k probed",
    "random_probes": "random probes",
    "halving": "LogME on some, best half probed, in the same time",
    "cheap_score_all": "LogME on all, no probe",
    "successive_halving": "LogME on all, top k probed",
}

Metrics = Mapping[str, Any]


def evaluation_charts(metrics: Metrics) -> dict[str, Chart]:
    """All figures that the document has data for, by name."""
    charts = {
        "quadrants": quadrant_chart(metrics),
        "regret": regret_chart(metrics),
        "calibration": calibration_chart(metrics),
        "cost_accuracy": cost_chart(metrics),
        "probing": probing_chart(metrics),
    }
    return {name: chart for name, chart in charts.items() if any(panel.series for panel in chart.panels)}


def quadrant_chart(metrics: Metrics, methods: Sequence[str] = HEADLINE) -> Chart:
    """Weighted tau by quadrant and method with intervals, and the noise ceiling of the truth."""
    marks = {
        f"noise ceiling ({protocol.replace('_', ' ')})": float(values["mean"])
        for protocol, values in metrics.get("noise_ceiling", {}).items()
        if _known(values.get("mean"))
    }
    panel = Panel("", "bars", _bars(metrics, methods, "weighted_tau"), "quadrant", "weighted tau", marks=marks)
    return Chart("How well the models are ranked", [panel])


def regret_chart(metrics: Metrics, methods: Sequence[str] = HEADLINE) -> Chart:
    """What is lost by taking the first, or the best of the first five, in points of accuracy."""
    panels = [
        Panel(title, "bars", _bars(metrics, methods, name), "quadrant", "regret (fraction of accuracy)")
        for title, name in (("first choice", "regret@1"), ("best of the first five", "regret@5"))
    ]
    return Chart("What a choice loses against the best model", panels)


def calibration_chart(metrics: Metrics) -> Chart:
    """Coverage of 90 % intervals and their interval score."""
    found = metrics.get("calibration", {})
    methods = list(dict.fromkeys(method for quadrant in found.values() for method in quadrant))
    panels = []
    for name, title in (
        ("coverage", "coverage of 90 % intervals"),
        ("interval_score", "interval score, lower is better"),
    ):
        series = [
            _series(method, list(found), [found[quadrant].get(method, {}).get(name) for quadrant in found])
            for method in methods
        ]
        marks = {"nominal": 0.9} if name == "coverage" else {}
        panels.append(Panel(title, "bars", series, "quadrant", title.split(",")[0], marks=marks))
    return Chart("How far predicted values can be trusted", panels)


def cost_chart(metrics: Metrics, quadrants: Sequence[str] = ("Q3", "Q4")) -> Chart:
    """Weighted tau on unknown datasets against the seconds that ranking all candidates for one dataset takes."""
    cost = metrics.get("cost_seconds", {})
    panels = []
    for quadrant in quadrants:
        series = []
        for method, entry in metrics.get("quadrants", {}).get(quadrant, {}).items():
            tau = entry.get("weighted_tau", {})
            if _known(cost.get(method)) and _known(tau.get("mean")):
                seconds = max(float(cost[method]), 1e-7)
                series.append(Series(method, [seconds], [tau["mean"]], [tau.get("low")], [tau.get("high")], [method]))
        panels.append(Panel(quadrant, "points", series, "seconds per dataset", "weighted tau", log_x=True))
    return Chart("What accuracy costs", panels)


def probing_chart(metrics: Metrics) -> Chart:
    """The frontier of regret and cost: against candidates really run, and against seconds."""
    frontier = metrics.get("probing", {}).get("frontier", {})
    by_count, by_seconds = [], []
    for policy, budgets in frontier.items():
        name = _POLICY_NAMES.get(policy, policy)
        entries = sorted(budgets.items(), key=lambda item: int(item[0]))
        regrets = [entry["regret@1"] for _, entry in entries]
        by_count.append(_series(name, [float(budget) for budget, _ in entries], regrets))
        seconds = [entry["seconds"]["mean"] for _, entry in entries]
        if all(_known(s) and s > 0 for s in seconds):
            by_seconds.append(_series(name, seconds, regrets))
    label = "regret@1 (fraction of accuracy)"
    panels = [Panel("candidates probed", "lines", by_count, "probes", label)]
    if by_seconds:
        panels.append(Panel("time spent", "lines", by_seconds, "seconds", label, log_x=True))
    return Chart("What a few probes are worth on a new dataset", panels)


def external_chart(metrics: Metrics) -> Chart:
    """Weighted tau and regret of every method on a published table, best first."""
    entries = metrics.get("methods", {})
    panels = []
    for title, name, sign in (("weighted tau", "weighted_tau", -1), ("regret@1", "regret@1", 1)):
        known = [method for method in entries if _known(entries[method].get(name, {}).get("mean"))]
        ordered = sorted(known, key=lambda method: sign * entries[method][name]["mean"])
        series = [_series(title, ordered, [entries[method][name] for method in ordered])]
        panels.append(Panel(title, "bars", series if ordered else [], "", title))
    return Chart(f"Published table {metrics.get('benchmark', '')}: every target left out in turn", panels)


def _bars(metrics: Metrics, methods: Sequence[str], name: str) -> list[Series]:
    quadrants = metrics.get("quadrants", {})
    found = [method for method in methods if any(method in entry for entry in quadrants.values())]
    return [
        _series(method, list(quadrants), [quadrants[q].get(method, {}).get(name) for q in quadrants])
        for method in found
    ]


def _series(name: str, x: Sequence[Any], intervals: Sequence[Mapping[str, Any] | None]) -> Series:
    def column(key: str) -> list[float | None]:
        return [None if entry is None or not _known(entry.get(key)) else float(entry[key]) for entry in intervals]

    return Series(name, x, column("mean"), column("low"), column("high"))


def _known(value: Any) -> bool:
    return value is not None and value == value  # noqa: PLR0124 - NaN differs from itself
