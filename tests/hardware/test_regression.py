"""The regression of a figure on counts."""

import numpy as np
import pytest

from thesis_rec.hardware.prediction import PENALTY, fit_log_figure, fold_groups, safe_margin


def test_the_regression_and_its_errors_on_families_left_out_are_those_of_scikit_learn():
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import LeaveOneGroupOut
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    families = np.repeat([f"f{i}" for i in range(10)], 6).astype(object)
    x, other = rng.normal(5, 2, (60, 3)), rng.normal(size=60)
    y = other + x @ [2.0, 0.0, -1.0] + np.repeat(rng.normal(size=10), 6) + 0.1 * rng.normal(size=60)
    joined, target, errors = np.column_stack([x, other]), y - other, np.empty(60)
    weights, margin, spread = fit_log_figure(np.column_stack([joined, np.ones(60)]), target, families)
    reference = make_pipeline(StandardScaler(), Ridge(alpha=PENALTY * 60)).fit(joined, target)
    assert weights == pytest.approx([*reference[1].coef_ / reference[0].scale_, reference.predict([[0.0] * 4])[0]])
    for train, test in LeaveOneGroupOut().split(joined, groups=families):
        model = make_pipeline(StandardScaler(), Ridge(alpha=PENALTY * len(train))).fit(joined[train], target[train])
        errors[test] = target[test] - model.predict(joined[test])
    assert spread == pytest.approx(np.sqrt(np.mean(errors**2)))
    assert margin == pytest.approx(safe_margin(errors))


def test_another_device_s_figure_may_have_a_slope():
    rng = np.random.default_rng(2)
    families = np.repeat([f"f{i}" for i in range(6)], 6).astype(object)
    other = rng.normal(size=36)
    y = 0.5 * other + 1.0 + 0.01 * rng.normal(size=36)
    weights, _, _ = fit_log_figure(np.column_stack([rng.normal(size=36), other, np.ones(36)]), y - other, families)
    assert weights == pytest.approx([0.0, -0.5, 1.0], abs=0.05)


def test_margins_hold_after_choosing():
    """Choosing on plain predictions breaks budgets; with the margin the share stays near alpha on new models."""
    rng = np.random.default_rng(1)
    plain = broken = chosen = 0
    for _ in range(60):
        actual = rng.normal(0, 1, 300)
        predicted = actual + rng.normal(0, 0.3, 300)
        margin = safe_margin(actual[:150] - predicted[:150])
        for budget in (-0.5, 0.0, 0.5):
            for added in (0.0, margin):
                admitted = np.flatnonzero(predicted[150:] + added <= budget) + 150
                closest = admitted[np.argsort(-predicted[admitted])[:5]]
                count = int((actual[closest] > budget).sum())
                if added:
                    broken, chosen = broken + count, chosen + len(closest)
                else:
                    plain += count
    assert plain / chosen > 0.2
    assert broken / chosen < 0.06


def test_the_margin_is_the_conformal_quantile_and_never_negative():
    errors = np.linspace(-1, 0.5, 99)
    assert safe_margin(errors) == np.sort(errors)[94]
    # Of too few models the largest error.
    assert safe_margin(errors[-3:]) == 0.5
    assert safe_margin(-np.ones(20)) == 0.0


def test_folds_take_the_place_of_too_few_families():
    assert fold_groups(np.array(["a", "b", "c", "a"], dtype=object)).tolist() == [0, 1, 2, 0]
    assert fold_groups(np.array(["a"] * 25, dtype=object)).max() == 9
