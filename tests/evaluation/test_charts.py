"""Figures show the numbers of the document."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thesis_rec.evaluation.charts import Chart, Panel, draw, evaluation_charts, loss_chart, points


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


def test_every_figure_is_there_with_its_panels():
    charts = evaluation_charts(METRICS)
    assert set(charts) == {"quadrants", "regret", "calibration", "cost_accuracy", "probing"}
    for chart in charts.values():
        drawn = [(axis.get_title(), len(axis.get_legend_handles_labels()[1])) for axis in draw(chart).axes]
        assert drawn == [(panel.title, panel.points["series"].nunique()) for panel in chart.panels]


def test_bars_are_the_means_and_whiskers_the_intervals():
    (axis,) = draw(evaluation_charts(METRICS)["quadrants"]).axes
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["Q1", "Q3", "Q4"]
    bars = {part.get_label(): part for part in axis.containers if hasattr(part, "patches")}
    assert {name: [bar.get_height() for bar in bars[name]] for name in ("recommender", "static_mean_z")} == {
        "recommender": pytest.approx([0.5] * 3),
        "static_mean_z": pytest.approx([0.6] * 3),
    }
    (whiskers,) = bars["recommender"].errorbar.lines[2]
    assert [end for segment in whiskers.get_segments() for end in segment[:, 1]] == pytest.approx([0.45, 0.55] * 3)
    assert [np.isnan(bar.get_height()) for bar in bars["logme"]] == [False, False, True]
    assert [text.get_text() for text in axis.texts] == ["noise ceiling (linear probe)"]


def test_the_frontier_is_in_the_order_of_the_budget():
    chart = evaluation_charts(METRICS)["probing"]
    assert chart.panels[0].points[["x", "mean"]].values.tolist() == [[3, 0.03], [12, 0.01]]
    assert chart.panels[1].x_scale == "log"


def test_costs_without_a_figure_are_left_out():
    chart = evaluation_charts(METRICS)["cost_accuracy"]
    assert set(chart.panels[1].points["series"]) == {"recommender", "static_mean_z"}
    assert set(chart.panels[0].points["series"]) == {"recommender", "static_mean_z", "logme"}
    assert [line.get_label() for line in draw(chart).axes[1].lines] == ["recommender", "static_mean_z"]


def test_series_that_share_a_colour_differ_by_their_marker():
    panel = Panel("p", "points", points({f"s{i}": {1.0: {"mean": i}} for i in range(19)}))
    lines = draw(Chart("t", [panel])).axes[0].lines
    assert lines[0].get_color() == lines[10].get_color()
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 19


def test_an_empty_document_has_no_figures():
    assert evaluation_charts({"quadrants": {}}) == {}


def test_lines_points_and_no_bounds():
    chart = Chart(
        "t",
        [
            Panel("p", "lines", points({"a": {1.0: {"mean": 0.1}, 2.0: None}})),
            Panel("q", "points", points({"a": {1.0: {"mean": 2.0}}})),
        ],
    )
    figure = draw(chart)
    lines, dots = (axis.lines[0] for axis in figure.axes)
    assert (lines.get_linestyle(), lines.get_marker()) == ("-", "o")
    assert (dots.get_linestyle(), dots.get_marker()) == ("None", "o")
    assert len(figure.legends) == 0


HISTORY = [{"epoch": i, "train_loss": 2.0 / (i + 1), "val_loss": 3.0 / (i + 1)} for i in range(6)]


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20), st.integers(1, 8))
def test_the_rolling_mean_looks_back(values, window):
    expected = [np.mean(values[max(0, i - window + 1) : i + 1]) for i in range(len(values))]
    history = [{"epoch": epoch, "train_loss": value} for epoch, value in enumerate(values)]
    drawn = loss_chart(history, "title", window).panels[2].points
    np.testing.assert_allclose(drawn["mean"], expected, atol=1e-8)


def test_three_views_of_two_curves():
    axes = draw(loss_chart(HISTORY, "title", window=2)).axes
    assert [axis.get_title() for axis in axes] == ["linear", "logarithmic", "rolling mean"]
    assert [line.get_label() for axis in axes for line in axis.lines] == ["train", "val"] * 3
    assert list(axes[0].lines[1].get_ydata()) == [row["val_loss"] for row in HISTORY]
    assert axes[2].lines[0].get_ydata()[1] == pytest.approx(1.5)
    assert [axis.get_yscale() for axis in axes] == ["linear", "log", "linear"]


def test_losses_below_zero_have_no_logarithm():
    history = [{"epoch": i, "train_loss": 1.0 - i} for i in range(3)]
    assert [axis.get_yscale() for axis in draw(loss_chart(history, "title")).axes] == ["linear"] * 3


def test_the_picture_can_be_saved():
    file = io.BytesIO()
    draw(loss_chart(HISTORY, "title")).savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")
