"""Figures show the numbers of the document, in both libraries."""

import numpy as np
import pytest

from thesis_rec.evaluation.charts import Chart, Panel, Series, matplotlib_figure, plotly_figure
from thesis_rec.evaluation.result_pictures import evaluation_charts


def interval(mean, half=0.05):
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": 9}


METRICS = {
    "quadrants": {
        q: {
            m: {"weighted_tau": interval(0.5 + 0.1 * i), "regret@1": interval(0.04), "regret@5": interval(0.01)}
            for i, m in enumerate(("recommender", "static_mean_z", "logme"))
        }
        for q in ("Q1", "Q3", "Q4")
    },
    "noise_ceiling": {"linear_probe": {"mean": 0.93, "low": 0.9, "high": 0.95}},
    "cost_seconds": {"recommender": 0.01, "static_mean_z": 1e-5, "logme": 30.0},
    "calibration": {"Q3": {"recommender": {"coverage": interval(0.91), "interval_score": interval(0.3)}}},
    "probing": {
        "frontier": {
            "active": {
                "12": {"regret@1": interval(0.01), "seconds": interval(12.0)},
                "3": {"regret@1": interval(0.03), "seconds": interval(3.0)},
            }
        }
    },
}
METRICS["quadrants"]["Q4"]["logme"]["weighted_tau"] = {"mean": None, "low": None, "high": None, "n": 0}


def test_every_figure_is_there_and_drawn_twice():
    charts = evaluation_charts(METRICS)
    assert set(charts) == {"quadrants", "regret", "calibration", "cost_accuracy", "probing"}
    for chart in charts.values():
        interactive, picture = plotly_figure(chart), matplotlib_figure(chart)
        assert len(picture.axes) == len(chart.panels)
        assert len(interactive.data) == sum(len(panel.series) for panel in chart.panels)


def test_bars_are_the_means_and_whiskers_the_intervals():
    figure = plotly_figure(evaluation_charts(METRICS)["quadrants"])
    ours = next(trace for trace in figure.data if trace.name == "recommender")
    assert list(ours.x) == ["Q1", "Q3", "Q4"]
    assert list(ours.y) == [0.5, 0.5, 0.5]
    assert list(ours.error_y.array) == pytest.approx([0.05] * 3)
    missing = next(trace for trace in figure.data if trace.name == "logme")
    assert missing.y[2] is None
    assert any("noise ceiling" in annotation.text for annotation in figure.layout.annotations)
    picture = matplotlib_figure(evaluation_charts(METRICS)["quadrants"])
    heights = sorted({round(bar.get_height(), 3) for bar in picture.axes[0].patches if np.isfinite(bar.get_height())})
    assert heights == [0.5, 0.6, 0.7]


def test_the_frontier_is_in_the_order_of_the_budget():
    chart = evaluation_charts(METRICS)["probing"]
    assert list(chart.panels[0].series[0].x) == [3.0, 12.0]
    assert list(chart.panels[0].series[0].y) == [0.03, 0.01]
    assert chart.panels[1].log_x


def test_costs_without_a_figure_are_left_out():
    chart = evaluation_charts(METRICS)["cost_accuracy"]
    assert {s.name for s in chart.panels[1].series} == {"recommender", "static_mean_z"}
    assert {s.name for s in chart.panels[0].series} == {"recommender", "static_mean_z", "logme"}


def test_an_empty_document_has_no_figures():
    assert evaluation_charts({"quadrants": {}}) == {}


def test_lines_points_and_no_bounds():
    chart = Chart(
        "t",
        [
            Panel("p", "lines", [Series("a", [1.0, 2.0], [0.1, None])]),
            Panel("q", "points", [Series("a", [1.0], [2.0])]),
        ],
    )
    assert plotly_figure(chart).data[0].mode == "lines+markers"
    assert len(matplotlib_figure(chart).legends) == 0
