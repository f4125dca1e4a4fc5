"""Expecting something of models that were never measured."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from thesis_rec.knowledge.covariance import Covariance
from thesis_rec.knowledge.protocols import COLUMNS, Extension, extend


def _measured(count: int = 40, seed: int = 0) -> tuple[list[str], Covariance, pd.DataFrame]:
    """Models whose mean grows with their size; families are of no importance."""
    generator = np.random.default_rng(seed)
    size = generator.uniform(16, 21, count)
    mean = size - size.mean() + 0.1 * generator.normal(size=count)
    names = [f"m{k}" for k in range(count)]
    models = pd.DataFrame(
        {
            "kind": "contrastive",
            "family": [f"f{k % 8}" for k in range(count)],
            "corpus": "laion",
            "n_parameters": np.exp(size),
            "resolution": 224,
            "imagenet": 1 / (1 + np.exp(-mean)),
        },
        index=names,
    )[COLUMNS]
    factor = np.column_stack([mean / 2, generator.normal(size=count)])
    return names, Covariance(mean, factor, np.full(count, 0.2)), models


def _of(row: dict[str, object], measured: tuple[list[str], Covariance, pd.DataFrame]) -> Extension:
    names, known, models = measured
    new = pd.DataFrame([row], index=["new"]).reindex(columns=COLUMNS)
    return extend(names, known, np.full(len(names), 20), ["new"], pd.concat([models, new]))


FULL = {"kind": "contrastive", "family": "x", "corpus": "laion", "n_parameters": np.exp(20.0), "resolution": 224}


def test_size_and_imagenet_accuracy_tell() -> None:
    measured = _measured()
    large = _of({**FULL, "imagenet": 0.8}, measured)
    small = _of({**FULL, "n_parameters": np.exp(16.5), "imagenet": 0.2}, measured)
    assert large.mean[0] > small.mean[0] + 1.5
    # Its answers go with those of models like it.
    assert large.factor[0, 0] > small.factor[0, 0] + 0.5


def test_the_less_is_known_the_wider_the_interval() -> None:
    measured = _measured()
    widths = [
        _of(row, measured).open[0]
        for row in ({**FULL, "imagenet": 0.8}, {**FULL, "n_parameters": np.nan}, {"kind": "unheard of"}, {})
    ]
    assert widths[0] < widths[1] < widths[2]
    # Nothing at all: the mean of the measured models with their whole variance.
    nothing = _of({}, measured)
    assert nothing.mean[0] == pytest.approx(measured[1].mean.mean(), abs=1e-9)
    assert nothing.open[0] >= widths[2] - 1e-9


def test_far_outside_the_measured_sizes_the_interval_widens() -> None:
    measured = _measured()
    inside = _of({**FULL, "imagenet": 0.5}, measured).open[0]
    outside = _of({**FULL, "n_parameters": np.exp(28.0), "imagenet": 0.5}, measured).open[0]
    assert outside > inside * 1.2


def test_size_counts_along_a_line_beyond_the_measured_ones() -> None:
    """Those that are larger than all measured ones are expected to gain as much again, not to be average."""
    measured = _measured()
    means = [_of({**FULL, "n_parameters": np.exp(size)}, measured).mean[0] for size in (19.0, 21.0, 23.0)]
    assert means[1] - means[0] > 0.2
    assert means[2] - means[1] == pytest.approx(means[1] - means[0], rel=1e-6)


def test_models_alike_share_what_is_open_about_them() -> None:
    names, known, models = _measured()
    kinds = {"a": "unheard of", "b": "unheard of", "c": "something else"}
    new = pd.DataFrame({"kind": kinds}).reindex(columns=COLUMNS)
    found = extend(names, known, np.full(40, 20), list(kinds), pd.concat([models, new]))
    joined = known.joined(found)
    last = joined.factor[-3:]
    covariance = last @ last.T
    assert covariance[0, 1] > 0.1 * covariance[0, 0]
    assert abs(covariance[0, 2]) < 0.3 * covariance[0, 1]
    total = np.diag(covariance) + joined.own[-3:]
    np.testing.assert_allclose(total, np.square(found.factor[:, :2]).sum(1) + 0.2 + found.open)


def test_imagenet_figures_are_compared_within_a_kind() -> None:
    names, known, models = _measured()
    heads = pd.DataFrame(
        {"kind": "supervised", "family": "r", "corpus": "in1k", "n_parameters": np.exp(18.0), "resolution": 224},
        index=["low", "high"],
    )
    # Both are far above what prompts reach; what counts is which of the two is the better head.
    heads["imagenet"] = [0.95, 0.97]
    found = extend(names, known, np.full(40, 20), ["low", "high"], pd.concat([models, heads]))
    assert found.mean[1] > found.mean[0]
    assert abs(found.mean.mean() - known.mean.mean()) < 1.0


def test_no_new_models_is_no_work() -> None:
    names, known, models = _measured()
    none = extend(names, known, np.full(40, 20), [], models)
    assert known.joined(none).mean.tolist() == known.mean.tolist()
