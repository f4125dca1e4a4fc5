"""From raw records to one value per cell."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import weightedtau

from tests.contracts import validate_performance
from thesis_rec.truth.performance_records import (
    COLUMNS,
    clean_performance,
    dataset_agreement,
    error_of_accuracy,
    noise_ceiling,
    repeats,
    variance_components,
)


def records(*rows):
    base = {"protocol": "linear_probe", "metric": "accuracy", "n_train": 16, "source": "s", "seed": 0}
    return pd.DataFrame([{**base, "model_id": m, "dataset_id": d, "value": v, **extra} for m, d, v, extra in rows])


def test_repeats_are_averaged_and_their_spread_kept():
    rows = ("a", "x", 0.2, {}), ("a", "x", 0.4, {"seed": 1}), ("b", "x", 0.5, {"seed": -1})
    table = clean_performance([records(*rows)])
    validate_performance(table)
    a, b = table.to_dict("records")
    assert a["value"] == pytest.approx(0.3)
    assert a["std"] == pytest.approx(np.std([0.2, 0.4], ddof=1))
    assert (a["n_repeats"], b["n_repeats"]) == (2, 1)
    assert np.isnan(b["std"])
    counted = records(*rows).assign(n_test=[48, 48, None])
    assert clean_performance([counted])["n_test"].tolist() == pytest.approx([48, np.nan], nan_ok=True)


def test_ones_own_measurements_replace_published_ones():
    own, published = records(("a", "x", 0.9, {})), records(("a", "x", 0.1, {}), ("b", "x", 0.2, {}))
    table = clean_performance([own, published]).set_index("model_id")["value"]
    assert table.to_dict() == {"a": 0.9, "b": 0.2}


def test_revisions_are_not_mixed():
    rows = ("a", "x", 0.9, {"model_revision": "2"}), ("a", "x", 0.1, {"model_revision": "1", "seed": 1})
    assert clean_performance([records(*rows)])["value"].tolist() == [0.1]
    assert clean_performance([records(("a", "x", 0.3, {})), records(*rows)])["value"].tolist() == [0.3]


def test_metrics_and_protocols_are_not_mixed():
    table = clean_performance(
        [records(("a", "x", 0.9, {}), ("a", "x", 0.1, {"metric": "f1"}), ("a", "x", 0.3, {"protocol": "fine_tune"}))]
    )
    assert table[["protocol", "value"]].values.tolist() == [["fine_tune", 0.3], ["linear_probe", 0.9]]


def test_records_that_dont_say_who_measured_them_count_too():
    """Grouping by a column leaves out rows that have nothing in it, without a word."""
    table = clean_performance(
        [records(("a", "x", 0.9, {"source": None}), ("a", "x", 0.7, {"source": None, "seed": 1}))]
    )
    assert table[["value", "n_repeats"]].values.tolist() == [[pytest.approx(0.8), 2]]


def test_values_that_are_no_fractions_are_left_out(caplog):
    table = clean_performance([records(("a", "x", 90.0, {}), ("a", "y", np.nan, {}), ("a", "z", 0.5, {}))])
    assert table["dataset_id"].tolist() == ["z"]
    assert "2 records" in caplog.text


def test_nothing_measured_is_an_empty_table():
    table = clean_performance([records().reindex(columns=["model_id"])])
    assert list(table.columns) == COLUMNS
    validate_performance(table)


def simulate(
    models: int, tasks: int, draws: int, sd: dict[str, float], seed: int = 0, protocol: str = "linear_probe"
) -> pd.DataFrame:
    """Records of the two-way model with the given standard deviations."""
    rng = np.random.default_rng(seed)
    y = (
        0.5
        + sd.get("model", 0) * rng.normal(size=(models, 1, 1))
        + sd.get("task", 0) * rng.normal(size=(1, tasks, 1))
        + sd.get("interaction", 0) * rng.normal(size=(models, tasks, 1))
        + sd.get("draw", 0) * rng.normal(size=(1, tasks, draws))
        + sd.get("noise", 0) * rng.normal(size=(models, tasks, draws))
    )
    index = np.indices(y.shape).reshape(3, -1)
    return pd.DataFrame(
        {
            "model_id": [f"m{i}" for i in index[0]],
            "dataset_id": [f"t{j}" for j in index[1]],
            "protocol": protocol,
            "metric": "accuracy",
            "value": y.ravel(),
            "seed": index[2],
        }
    )


def test_components_are_recovered() -> None:
    sd = {"model": 0.05, "task": 0.12, "interaction": 0.08, "draw": 0.03, "noise": 0.04}
    estimates = [variance_components(simulate(60, 50, 3, sd, seed)) for seed in range(8)]
    for name, value in sd.items():
        found = np.mean([estimate[name] for estimate in estimates])
        assert found == pytest.approx(value**2, rel=0.2), name
    total = 0.05**2 + 0.12**2 + 0.08**2
    shares = [e["interaction_share"] for e in estimates]
    assert np.mean(shares) == pytest.approx(0.08**2 / total, abs=0.05)
    one = estimates[0]
    assert one["model_share"] + one["task_share"] + one["interaction_share"] == pytest.approx(1.0)
    assert one["interaction_among_models"] == pytest.approx(one["interaction"] / (one["interaction"] + one["model"]))


def test_each_effect_alone_is_its_own_variance() -> None:
    """Without noise the method of moments is exact: sample variances of the effects."""
    rng = np.random.default_rng(4)
    a, b, r = 5, 4, 3
    drawn = {"model": (a, 1, 1), "task": (1, b, 1), "interaction": (a, b, 1), "draw": (1, b, r)}
    for name, shape in drawn.items():
        effect = rng.normal(size=shape)
        if name == "interaction":
            effect -= effect.mean(0, keepdims=True) + effect.mean(1, keepdims=True) - effect.mean()
            expected = np.square(effect).sum() / ((a - 1) * (b - 1))
        elif name == "draw":
            effect -= effect.mean(2, keepdims=True)
            expected = np.square(effect).sum() / (b * (r - 1))
        else:
            expected = effect.var(ddof=1)
        records = simulate(a, b, r, {})
        records["value"] = 0.5 + np.broadcast_to(effect, (a, b, r)).ravel()
        found = variance_components(records)
        parts = {part: found[part] for part in (*drawn, "noise")}
        assert parts == pytest.approx(dict.fromkeys(parts, 0.0) | {name: expected}, abs=1e-12), name


def test_the_error_of_an_accuracy_is_the_binomial_one_but_never_none() -> None:
    """Near 0 and 1 that of an accuracy of .053: of twenty images all right isn't a certainty."""
    found = error_of_accuracy(np.array([0.5, 0.2, 1.0, 0.0]), np.array([100, 64, 20, 20]))
    np.testing.assert_allclose(found, [0.05, 0.05, 0.05, 0.05])


def test_noise_is_not_taken_for_interaction() -> None:
    components = variance_components(simulate(80, 60, 3, {"model": 0.1, "task": 0.1, "noise": 0.1}))
    assert components["interaction"] < 0.05 * 0.1**2 + 1e-4
    assert components["noise"] == pytest.approx(0.01, rel=0.05)


def test_noise_component_is_the_anova_residual() -> None:
    """Within each task the residual of a two-way table (models x draws), by least squares."""
    records = simulate(7, 4, 3, {"interaction": 0.1, "noise": 0.05, "draw": 0.05}, seed=3)
    total, freedom = 0.0, 0
    for _, group in records.groupby("dataset_id"):
        design = pd.get_dummies(group[["model_id"]].assign(draw=group["seed"].astype(str))).to_numpy(float)
        coefficients, _, rank, _ = np.linalg.lstsq(design, group["value"].to_numpy(), rcond=None)
        fitted = design @ coefficients
        total += ((group["value"].to_numpy() - fitted) ** 2).sum()
        freedom += len(group) - rank
    assert variance_components(records)["noise"] == pytest.approx(total / freedom)


def test_incomplete_tables_are_cut_to_a_complete_block() -> None:
    records = simulate(20, 12, 3, {"model": 0.1, "interaction": 0.1, "noise": 0.02})
    holes = (records["model_id"] == "m3") & (records["dataset_id"].isin([f"t{j}" for j in range(6)]))
    single = (records["dataset_id"] == "t11") & (records["seed"] > 0)
    components = variance_components(records[~holes & ~single])
    assert tuple(components[name] for name in ("n_models", "n_tasks", "n_repeats")) == (19, 11, 3)
    chosen = records["model_id"].isin(["m0", "m1", "m2"]) & records["dataset_id"].isin(["t0", "t1", "t2", "t3"])
    some = variance_components(records[chosen])
    assert (some["n_models"], some["n_tasks"]) == (3, 4)
    with pytest.raises(ValueError, match="too few"):
        variance_components(records[records["seed"] == 0])
    with pytest.raises(ValueError, match="too few"):
        variance_components(records, protocol="fine_tune")


def test_ceiling_is_the_mean_tau_between_repeats() -> None:
    records = simulate(30, 6, 3, {"model": 0.1, "interaction": 0.1, "noise": 0.05})
    table = repeats(records, "linear_probe")
    expected = np.mean(
        [
            np.mean([weightedtau(table[(t, i)], table[(t, j)])[0] for i, j in ((0, 1), (0, 2), (1, 2))])
            for t in (f"t{k}" for k in range(6))
        ]
    )
    ceiling = noise_ceiling(records, "linear_probe")
    assert ceiling["mean"] == pytest.approx(expected)
    assert ceiling["low"] < ceiling["mean"] < ceiling["high"]
    assert ceiling["n"] == 6


def test_ceiling_falls_with_noise_and_ignores_averaged_repeats_and_small_datasets() -> None:
    exact = simulate(20, 5, 2, {"interaction": 0.1})
    noisy = simulate(20, 5, 2, {"interaction": 0.1, "noise": 0.1})
    assert noise_ceiling(exact, "linear_probe")["mean"] == pytest.approx(1.0)
    assert noise_ceiling(noisy, "linear_probe")["mean"] < 0.8
    averaged = exact.assign(seed=-1)
    assert noise_ceiling(averaged, "linear_probe")["n"] == 0
    few = exact[(exact["dataset_id"] != "t0") | exact["model_id"].isin(["m0", "m1", "m2"])]
    assert noise_ceiling(few, "linear_probe")["n"] == 4
    assert np.isnan(noise_ceiling(exact, "fine_tune")["mean"])


def test_agreement_needs_models_that_both_repeats_have() -> None:
    values = np.array([[0.1, np.nan], [0.2, np.nan], [np.nan, 0.3]])
    assert np.isnan(dataset_agreement(values))
    full = np.array([[0.1, 0.3], [0.2, 0.4], [0.3, 0.9], [np.nan, 0.1]])
    assert dataset_agreement(full) == pytest.approx(1.0)
