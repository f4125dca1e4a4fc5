from __future__ import annotations

import json
import runpy

import numpy as np
import pandas as pd
import pytest
from hardware_choices import held_out_figures, judge_choices, performance_matrix, static_prior

from tests.fabricated import fabricated_bundle
from tests.hardware.test_prediction import fabricate
from thesis_rec.recommendation.bundle import write_bundle


def test_choices_by_hand():
    actual = np.array([1.0, 2.0, 3.0, 4.0])
    truth = np.array([[0.2, 0.4, 0.6, 0.8]])
    score = np.array([[1.0, 2.0, 3.0, 4.0]])
    # Measured figures: the best feasible model is chosen at each budget.
    found = judge_choices(actual, actual, score, truth, [2.5, 3.5], k=1)
    assert (found.violations, found.regret_first, found.n, found.empty) == (0.0, 0.0, 2, 0)
    # Claimed too low: model 3 is chosen at both budgets and breaks both; it counts as the worst feasible one.
    found = judge_choices(np.array([1.0, 2.0, 3.0, 2.0]), actual, score, truth, [2.5, 3.5], k=1)
    assert found.violations == found.violations_first == 1.0
    assert found.regret_first == pytest.approx(((0.4 - 0.2) + (0.6 - 0.2)) / 2)
    # Claimed too high: nothing is left at the first budget, and a worse one at the second.
    found = judge_choices(actual * 1.7, actual, score, truth, [1.5, 3.5], k=1)
    assert (found.empty, found.n, found.violations) == (1, 1, 0.0)
    assert found.regret_first == pytest.approx(0.2)
    # Two choices: the best of them counts.
    found = judge_choices(actual, actual, -score, truth, [3.5], k=2)
    assert found.regret == pytest.approx(0.6 - 0.4)
    assert found.regret_first == pytest.approx(0.6 - 0.2)
    # No model fits: no question was asked.
    assert judge_choices(actual, actual, score, truth, [0.5]).n == 0


def test_the_safe_side_keeps_budgets_that_plain_predictions_break():
    profiles, models = fabricate(noise=0.15, seed=3)
    truth_table = profiles[(profiles["device"] == "cpu_a") & (profiles["batch_size"] == 1)].set_index("model_id")
    actual = truth_table["latency_ms_p50"].reindex(models["model_id"]).to_numpy()
    predicted = held_out_figures(profiles, models, "cpu_a")
    assert predicted["basis"].eq("predicted").all()
    # Larger models are better, so that choices crowd at the limit.
    truth = np.log(models["n_parameters"].to_numpy())[None] / 20
    budgets = np.quantile(actual, [0.25, 0.5, 0.75, 0.9])
    plain = judge_choices(predicted["latency_ms"].to_numpy(), actual, truth, truth, budgets)
    safe = judge_choices(predicted["latency_ms_safe"].to_numpy(), actual, truth, truth, budgets)
    # The floor of arithmetic already stops the worst of the plain ones.
    assert plain.violations > safe.violations
    assert safe.violations <= 0.05


def test_the_static_prior_of_unknown_models_is_their_family_s():
    truth = np.array([[0.1, 0.2, 0.9, 0.5], [0.2, 0.4, 0.8, 0.1]])
    prior = static_prior(truth, ["f", "f", "g", "f"], np.array([True, True, True, False]))
    assert prior[2] > prior[1] > prior[0]
    assert prior[3] == pytest.approx((prior[0] + prior[1]) / 2)
    nobody = static_prior(truth, ["f", "f", "g", "h"], np.array([True, True, True, False]))
    assert nobody[3] == 0.0


def test_performance_is_averaged_over_repeats():
    records = pd.DataFrame({
        "model_id": ["a", "a", "b"], "dataset_id": ["x", "x", "x"], "value": [0.2, 0.4, 0.5],
        "protocol": ["linear_probe", "linear_probe", "fine_tune"],
    })  # fmt: skip
    np.testing.assert_allclose(performance_matrix(records, ["x"], ["a", "b"]), [[0.3, np.nan]])


def test_the_benchmark_ends_with_json(tmp_path, project_dir, monkeypatch, capsys):
    bundle = fabricated_bundle()
    write_bundle(bundle, tmp_path / "bundle")
    bundle.manifest.to_csv(tmp_path / "model_manifest.csv", index=False)
    bundle.datasets.to_csv(tmp_path / "dataset_manifest.csv", index=False)
    other = bundle.profiles.assign(device="cuda_fabricated", latency_ms_p50=bundle.profiles["latency_ms_p50"] / 3)
    pd.concat([bundle.profiles, other]).to_parquet(tmp_path / "hardware_profiles.parquet")
    bundle.performance.to_parquet(tmp_path / "performance_records.parquet")
    (tmp_path / "sides.json").write_text(json.dumps({"dataset_ids": ["d4", "d5"], "model_ids": ["m20"]}))
    monkeypatch.setattr("sys.argv", ["hardware.py", "--root", str(tmp_path), "--own", str(tmp_path / "none")])
    runpy.run_path(str(project_dir / "benchmarks" / "hardware.py"), run_name="__main__")
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    part = report["devices"]["cuda_fabricated"]
    assert part["predicted_safe/recommender"]["violations"] <= part["predicted_point/recommender"]["violations"]
    assert part["measured/recommender"]["violations"] == 0.0
