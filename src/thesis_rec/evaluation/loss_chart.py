"""Loss curves of a training run."""

from __future__ import annotations

from typing import Any

import pandas as pd

from thesis_rec.evaluation.charts import Chart, Panel, Series


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
