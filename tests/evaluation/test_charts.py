"""Figures show the numbers of the document, in both libraries."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thesis_rec.evaluation.charts import Chart, Panel, Series, loss_chart, matplotlib_figure, plotly_figure
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


HISTORY = [{"epoch": i, "train_loss": 2.0 / (i + 1), "val_loss": 3.0 / (i + 1)} for i in range(6)]


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20), st.integers(1, 8))
def test_the_rolling_mean_looks_back(values, window):
    expected = [np.mean(values[max(0, i - window + 1) : i + 1]) for i in range(len(values))]
    history = [{"epoch": epoch, "train_loss": value} for epoch, value in enumerate(values)]
    (drawn,) = loss_chart(history, "title", window).panels[2].series
    np.testing.assert_allclose(drawn.y, expected, atol=1e-8)


def test_three_views_of_two_curves():
    figure = plotly_figure(loss_chart(HISTORY, "title", window=2))
    assert [trace.name for trace in figure.data] == ["train", "val"] * 3
    assert list(figure.data[1].y) == [row["val_loss"] for row in HISTORY]
    assert figure.data[4].y[1] == pytest.approx(1.5)
    assert figure.layout.yaxis2.type == "log"
    assert figure.layout.yaxis.type is None


def test_losses_below_zero_have_no_logarithm():
    history = [{"epoch": i, "train_loss": 1.0 - i} for i in range(3)]
    figure = plotly_figure(loss_chart(history, "title"))
    assert figure.layout.yaxis2.type is None
    assert len(figure.data) == 3
    assert matplotlib_figure(loss_chart(history, "title")).axes[1].get_yscale() == "linear"


def test_the_picture_can_be_saved():
    picture = matplotlib_figure(loss_chart(HISTORY, "title"))
    assert [axis.get_title() for axis in picture.axes] == ["linear", "logarithmic", "rolling mean"]
    assert picture.axes[1].get_yscale() == "log"
    file = io.BytesIO()
    picture.savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")
