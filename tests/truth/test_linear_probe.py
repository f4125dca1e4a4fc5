"""Probes against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from thesis_rec.base.tables import MeasuredTask
from thesis_rec.truth.linear_probe import (
    ClassRows,
    draw_rows,
    plan_probes,
    probe_accuracies,
    probe_weights,
)
from thesis_rec.truth.settings import ProbeRecipe


def make_bank(rng: np.random.Generator, width: int, tasks: dict[str, list[int]]):
    """Features of tasks with the given numbers of images per class (train; half as many for test)."""
    classes, parts, start = {}, [], 0
    for name, counts in tasks.items():
        rows = []
        for count in counts:
            centre = rng.normal(size=width)
            n_test = max(1, count // 2)
            parts.append(centre + 1.5 * rng.normal(size=(count + n_test, width)))
            rows.append(ClassRows(np.arange(start, start + count), np.arange(start + count, start + count + n_test)))
            start += count + n_test
        classes[name] = rows
    return np.concatenate(parts), classes


def reference_accuracy(x, train_rows, train_class, test_rows, test_class, n_classes: int, ridge: float) -> float:
    """The recipe written with scikit-learn."""
    scaler = StandardScaler().fit(x[train_rows])
    model = Ridge(alpha=ridge * len(train_rows), solver="cholesky")
    model.fit(scaler.transform(x[train_rows]), np.eye(n_classes)[train_class])
    return float((model.predict(scaler.transform(x[test_rows])).argmax(1) == test_class).mean())


@settings(max_examples=15)
@given(width=st.sampled_from([3, 20, 90]), seed=st.integers(0, 10**6), ridge=st.sampled_from([1e-3, 0.1, 3.0]))
def test_probes_equal_scikit_learn(width: int, seed: int, ridge: float) -> None:
    rng = np.random.default_rng(seed)
    x, classes = make_bank(rng, width, {"a": [20, 9, 31], "b": [12, 40], "c": [5, 6, 7, 30]})
    x[:, 0] = 3.7  # a feature that never varies
    tasks = [
        MeasuredTask("a", (("a", 0), ("a", 1), ("a", 2))),
        MeasuredTask("mix", (("a", 2), ("b", 0), ("c", 3), ("c", 0)), draws=False),
        MeasuredTask("pair", (("c", 1), ("c", 2)), draws=False),
    ]
    recipe = ProbeRecipe(shots=8, draws=2, ridge=ridge)
    plan = plan_probes(tasks, classes, recipe)
    found = probe_accuracies(x, recipe, plan)
    expected = [[reference_accuracy(x, rows, *probe[1:], ridge) for rows in probe.train_rows] for probe in plan]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("width", [4, 60])
def test_weights_equal_scikit_learn(width: int) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(2.0, 5.0, size=(2, 30, width))
    labels = rng.integers(0, 3, size=30)
    weights, biases = probe_weights(x, labels, 3, 0.2)
    for repeat in (0, 1):
        scaler = StandardScaler().fit(x[repeat])
        model = Ridge(alpha=0.2 * 30, solver="cholesky")
        model.fit(scaler.transform(x[repeat]), np.eye(3)[labels])
        expected = model.predict(scaler.transform(x[repeat]))
        np.testing.assert_allclose(x[repeat] @ weights[repeat] + biases[repeat], expected, atol=1e-10)


def test_draws_are_fixed_by_seed_class_and_repeat_only() -> None:
    rows = ClassRows(np.arange(100, 140), np.arange(5))
    first = draw_rows(rows, "a", 2, 0, 16, 0)
    assert len(first) == 16 == len(set(first))
    assert set(first) <= set(rows.train)
    assert list(first) == list(draw_rows(rows, "a", 2, 0, 16, 0))
    for other in (
        draw_rows(rows, "a", 2, 1, 16, 0),
        draw_rows(rows, "a", 3, 0, 16, 0),
        draw_rows(rows, "b", 2, 0, 16, 0),
        draw_rows(rows, "a", 2, 0, 16, 1),
    ):
        assert list(first) != list(other)


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (2, 1), (8, 6), (21, 15), (22, 16), (500, 16)])
def test_small_classes_keep_a_quarter_out_of_each_draw(count: int, expected: int) -> None:
    rows = ClassRows(np.arange(count), np.arange(1))
    assert len(draw_rows(rows, "a", 0, 0, 16, 0)) == expected


def test_impossible_tasks_are_refused() -> None:
    some, none = np.arange(3), np.arange(0)
    classes = {"a": [ClassRows(some, some), ClassRows(some, none), ClassRows(none, some), ClassRows(some, none)]}
    # A class may go untested.
    assert plan_probes([MeasuredTask("t", (("a", 0), ("a", 1)))], classes, ProbeRecipe())[0].n_classes == 2
    for members, message in (
        ((("a", 0),), "two classes"),
        ((("a", 1), ("a", 3)), "no test image"),
        ((("a", 0), ("a", 2)), "no training image"),
    ):
        with pytest.raises(ValueError, match=message):
            plan_probes([MeasuredTask("t", members)], classes, ProbeRecipe())
