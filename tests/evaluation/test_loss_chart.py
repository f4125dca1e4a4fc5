"""Loss plots show what the history holds."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thesis_rec.evaluation.charts import matplotlib_figure, plotly_figure
from thesis_rec.evaluation.loss_chart import loss_chart

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
