"""The evaluation's figures, from the document ``evaluation_metrics`` alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from thesis_rec.evaluation.charts import Chart, Panel, points

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
    quadrants, trusted = metrics.get("quadrants", {}), metrics.get("calibration", {})
    ceilings = {
        f"noise ceiling ({protocol.replace('_', ' ')})": float(values["mean"])
        for protocol, values in metrics.get("noise_ceiling", {}).items()
        if values.get("mean") is not None
    }
    loss, coverage = "regret (fraction of accuracy)", "coverage of 90 % intervals"
    charts = {
        "quadrants": Chart(
            "How well the models are ranked",
            [_bars("", quadrants, "weighted_tau", "weighted tau", ceilings, HEADLINE)],
        ),
        "regret": Chart(
            "What a choice loses against the best model",
            [
                _bars("first choice", quadrants, "regret@1", loss, {}, HEADLINE),
                _bars("best of the first five", quadrants, "regret@5", loss, {}, HEADLINE),
            ],
        ),
        "calibration": Chart(
            "How far predicted values can be trusted",
            [
                _bars(coverage, trusted, "coverage", coverage, {"nominal": 0.9}),
                _bars("interval score, lower is better", trusted, "interval_score", "interval score", {}),
            ],
        ),
        "cost_accuracy": cost_chart(metrics),
        "probing": probing_chart(metrics),
    }
    return {name: chart for name, chart in charts.items() if any(len(panel.points) for panel in chart.panels)}


def _bars(
    title: str, found: Metrics, figure: str, label: str, marks: Mapping[str, float], only: Sequence[str] = ()
) -> Panel:
    """One figure by quadrant and method."""
    return Panel(title, "bars", points(by_method(found, figure, only)), "quadrant", label, marks=marks)


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
        _POLICY_NAMES.get(policy, policy): {int(budget): budgets[budget] for budget in sorted(budgets, key=int)}
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
