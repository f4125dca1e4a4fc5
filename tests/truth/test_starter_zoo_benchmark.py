"""The starter zoo's benchmark on a zoo whose answers are known."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="module")
def benchmark(project_dir: Path) -> ModuleType:
    """The script as a module."""
    specification = importlib.util.spec_from_file_location("starter_zoo", project_dir / "benchmarks/starter_zoo.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty models, 24 base tasks and a sub-task, made of known components."""
    root = tmp_path_factory.mktemp("zoo")
    rng = np.random.default_rng(0)
    models, tasks, draws = 30, 24, 3
    effect = 0.05 * rng.normal(size=models)
    cells = 0.5 + effect[:, None] + 0.1 * rng.normal(size=tasks) + 0.1 * rng.normal(size=(models, tasks))
    values = np.clip(cells[:, :, None] + 0.02 * rng.normal(size=(models, tasks, draws)), 0, 1)
    values[0] = values.max(0) + 0.001  # one model that is best everywhere
    ids = [f"m{i}" for i in range(models)]
    pd.DataFrame(
        {
            "model_id": ids,
            "family": ["f0", "f1", "f2"] * 10,
            "pretraining": ["random", "a", "b", "c", "d"] * 6,
            "n_parameters": [str(20_000 + 1000 * i) for i in range(models)],
        }
    ).to_csv(root / "model_manifest.csv", index=False)
    names = [f"t{j}" for j in range(tasks)]
    pd.DataFrame(
        {
            "dataset_id": [*names, "sub", "unmeasured"],
            "domain": [*(["x", "y"] * 12), "x", "x"],
            "parent": [*[""] * tasks, "t0", ""],
        }
    ).to_csv(root / "dataset_manifest.csv", index=False)
    index = np.indices(values.shape).reshape(3, -1)
    base = pd.DataFrame(
        {
            "model_id": [ids[i] for i in index[0]],
            "dataset_id": [names[j] for j in index[1]],
            "value": values.ravel(),
            "seed": index[2],
        }
    )
    sub = pd.DataFrame({"model_id": ids, "dataset_id": "sub", "value": 0.5, "seed": -1})
    records = pd.concat([base, sub]).assign(protocol="linear_probe", metric="accuracy", n_train=16, source="x")
    records.to_parquet(root / "performance_records.parquet")
    scores = base[base["seed"] == 0][["model_id", "dataset_id"]]
    scores = scores.assign(method="logme", value=values.mean(2).ravel(), seconds=0.5, source="x")
    scores.to_parquet(root / "transferability_scores.parquet")
    return root


def test_the_script_prints_a_last_line_of_json(project_dir: Path, zoo: Path) -> None:
    command = [sys.executable, str(project_dir / "benchmarks/starter_zoo.py"), "--root", str(zoo)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": ""})
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["counts"]["models"] == 30
    assert summary["counts"]["base_tasks"] == 24
    assert summary["counts"]["sub_tasks"] == 1
    assert summary["counts"]["pretraining_sources"] == 5
    assert summary["counts"]["cells"] == {"linear_probe": 30 * 25}
    assert summary["variance"]["n_models"] == 24
    assert summary["variance_all_models"]["n_models"] == 30
    assert summary["variance_by_generation"] == {"1": summary["variance"]}
    assert summary["methods"]["logme"] == {"weighted_tau": 1.0, "regret@1": 0.0, "tasks": 24}
    assert abs(summary["methods"]["random"]["weighted_tau"]) < 0.2
    assert summary["methods"]["mean_accuracy"]["regret@1"] == 0.0
    assert summary["best_model"] == {"model": "m0", "share": 1.0, "winners": 1}
    assert summary["claims"]["best model on <= 0.25 of the tasks"] is False
    assert 0.3 < summary["variance"]["interaction_share"] < 0.7
    assert summary["noise_ceiling"]["linear_probe"]["mean"] > 0.8
    assert summary["cost_seconds"] == {"logme": 0.5}


def test_figures_are_put_between_the_marks_of_a_page(benchmark: ModuleType, zoo: Path, tmp_path: Path) -> None:
    summary = benchmark.summarise(benchmark.read_tables(zoo))
    page = tmp_path / "page.md"
    first, last = benchmark.marks("figures")
    page.write_text(f"before\n{first}\nold\n{last}\nafter\n")
    benchmark.write(page, "figures", benchmark.page_tables(summary))
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert f"| {summary['variance']['interaction_share']:.3f} |" in text
    assert "| logme | 1.000 | 0.000 |" in text
    benchmark.write(page, "figures", benchmark.page_tables(summary))
    assert page.read_text() == text
    page.write_text("nothing")
    with pytest.raises(ValueError, match="has no lines"):
        benchmark.write(page, "real images", benchmark.real_table({"mnist": 0.5}, 3))


def test_the_data_card_has_the_figures_of_the_committed_tables(benchmark: ModuleType, project_dir: Path) -> None:
    root = project_dir / "data/01_raw/starter"
    if not (root / "performance_records.parquet").is_file():
        pytest.skip("no zoo is committed")
    summary = benchmark.summarise(benchmark.read_tables(root))
    card = (project_dir / "docs/starter-zoo.md").read_text(encoding="utf-8")
    assert benchmark.page_tables(summary) in card
    assert summary["claims"] == {"interaction_share >= 0.40": True, "best model on <= 0.25 of the tasks": True}


def test_priors_never_see_the_task_they_rank(benchmark: ModuleType, zoo: Path) -> None:
    truth = benchmark.truth_matrix(benchmark.read_tables(zoo))
    changed = truth.copy()
    changed["t3"] = changed["t3"].to_numpy()[::-1]
    before, after = benchmark.static_priors(truth), benchmark.static_priors(changed)
    for name, prior in before.items():
        np.testing.assert_allclose(prior["t3"], after[name]["t3"])
        assert not np.allclose(prior["t4"], after[name]["t4"])
    others = [task for task in truth.columns if task != "t7"]
    np.testing.assert_allclose(before["mean_accuracy"]["t7"], truth[others].mean(axis=1))
    np.testing.assert_allclose(before["mean_rank"]["t7"], truth[others].rank().mean(axis=1))


def test_models_without_a_score_come_last(benchmark: ModuleType) -> None:
    truth = pd.DataFrame({"t": [0.9, 0.5, 0.1]}, index=["a", "b", "c"])
    missing = pd.DataFrame({"t": [np.nan, 2.0, 1.0]}, index=truth.index)
    none = pd.DataFrame({"t": [np.nan] * 3}, index=truth.index)
    found = benchmark.judge(truth, {"leep": missing, "absent": none})
    assert found["leep"]["regret@1"] == pytest.approx(0.4)
    assert "absent" not in found
