"""Figures, their summaries and comparisons, by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from thesis_rec.evaluation.figures import calibration, cluster_bootstrap, compare, figures_per_dataset, summarise
from thesis_rec.evaluation.metrics import LOWER_IS_BETTER, METRICS, metric_table
from thesis_rec.evaluation.quadrant_evaluation import RECOMMENDER
from thesis_rec.evaluation.study import Scores


def test_figures_are_those_of_the_cells(whole, study):
    masks = study.split.quadrants()
    row = whole.figures[(whole.figures["method"] == "nearest_dataset") & (whole.figures["quadrant"] == "Q3")].iloc[0]
    j = study.dataset_ids.index(row["dataset_id"])
    rows = masks["Q3"][:, j]
    part = whole.rankings[
        (whole.rankings["method"] == "nearest_dataset")
        & (whole.rankings["quadrant"] == "Q3")
        & (whole.rankings["dataset_id"] == row["dataset_id"])
    ]
    assert sorted(part["rank"]) == list(range(1, rows.sum() + 1))
    order = part.set_index("model_id")["score"].reindex(np.array(study.models.model_ids)[rows]).to_numpy()
    expected = metric_table(study.values[rows, j], order)
    assert row["weighted_tau"] == pytest.approx(expected["weighted_tau"])
    assert row["regret@1"] == pytest.approx(expected["regret@1"])


def test_all_methods_are_judged_on_the_same_cells(whole):
    counts = whole.figures.groupby(["quadrant", "dataset_id"])["n_models"].nunique()
    assert (counts == 1).all()
    sizes = whole.rankings.groupby(["quadrant", "method"]).size()
    assert all(len(set(part)) == 1 for _, part in sizes.groupby("quadrant"))


def test_partial_methods_say_how_partial(whole):
    entry = whole.metrics["quadrants"]["Q3"]
    assert 0.5 < entry["leep"]["coverage"]["mean"] < 0.8
    assert "coverage" not in entry["logme"]


def test_calibration_by_hand(study):
    chance = np.array([1.0 / len(task.class_names) for task in study.tasks])
    truth = np.maximum(study.values, chance)
    certain = Scores(truth, truth, truth - 0.1, truth + 0.1)
    wrong = Scores(truth, truth + 0.5, truth + 0.4, truth + 0.6)
    found = calibration(study, {"certain": certain, "wrong": wrong, "silent": Scores(truth)}, bootstrap=50)
    assert set(found["Q4"]) == {"certain", "wrong"}
    assert found["Q4"]["certain"]["coverage"]["mean"] == 1.0
    assert found["Q4"]["certain"]["interval_score"]["mean"] == pytest.approx(0.2)
    assert found["Q4"]["wrong"]["interval_score"]["mean"] == pytest.approx(0.2 + 20 * 0.4)
    assert found["Q4"]["wrong"]["coverage"]["mean"] == 0.0
    assert found["Q4"]["wrong"]["width"]["mean"] == pytest.approx(0.2)
    exact = calibration(study, {"off": replace(wrong, value=study.values - 0.3)}, bootstrap=50)
    assert exact["Q4"]["off"]["absolute_error"]["mean"] == pytest.approx(0.3)


def test_paired_difference_is_of_the_same_datasets(study, whole):
    found = compare(study, whole.figures, RECOMMENDER, ["leep"], 100)["Q3"]["leep"]["weighted_tau"]
    part = whole.figures[whole.figures["quadrant"] == "Q3"].pivot_table(
        index="dataset_id", columns="method", values="weighted_tau"
    )
    assert found["mean"] == pytest.approx((part[RECOMMENDER] - part["leep"]).mean())


@pytest.mark.parametrize(
    ("gains", "better"), [((0.2, 0.3), True), ((-0.2, -0.3), False), ((0.0, 0.0), False), ((0.3, -0.3), False)]
)
def test_better_is_a_gain_whose_interval_excludes_zero(study, gains, better):
    """Of regret, of which less is better, the other way round."""
    signs = {name: -1 if name in LOWER_IS_BETTER else 1 for name in METRICS}
    rows = [
        {
            "quadrant": "Q1",
            "method": method,
            "dataset_id": name,
            **{key: 0.5 + sign * gain for key, sign in signs.items()},
        }
        for number, name in enumerate(study.dataset_ids)
        for method, gain in (("ours", gains[number % 2]), ("other", 0.0))
    ]
    found = compare(study, pd.DataFrame(rows), "ours", ["other"], 100)["Q1"]["other"]
    assert {name: entry["better"] for name, entry in found.items()} == dict.fromkeys(METRICS, better)


@pytest.mark.parametrize("quadrant", ["Q1", "Q3"])
def test_intervals_resample_families_where_datasets_are_unknown(study, whole, quadrant):
    found = whole.metrics["quadrants"][quadrant]["nearest_dataset"]["weighted_tau"]
    part = whole.figures[(whole.figures["method"] == "nearest_dataset") & (whole.figures["quadrant"] == quadrant)]
    families = [study.families[study.dataset_ids.index(name)] for name in part["dataset_id"]]
    assert len(set(families)) < len(families)
    names = families if quadrant == "Q3" else part["dataset_id"].tolist()
    assert found == cluster_bootstrap(part["weighted_tau"], names, draws=200, seed=0)


def test_groups_are_disjoint_parts_of_the_whole(study, whole):
    natural = [d for d, group in zip(study.dataset_ids, study.groups, strict=True) if group == "natural"]
    figures = whole.figures[whole.figures["dataset_id"].isin(natural)]
    part = summarise(study, figures, bootstrap=50)["Q3"]["random"]["regret@1"]["n"]
    both = sum(whole.metrics["groups"][g]["Q3"]["random"]["regret@1"]["n"] for g in ("natural", "structured"))
    assert part < both == whole.metrics["quadrants"]["Q3"]["random"]["regret@1"]["n"]


def test_constant_scores_share_their_random_orders(study):
    masks = {"Q3": study.split.quadrants()["Q3"]}
    flat = np.ones_like(study.values)
    figures = figures_per_dataset(study, {"a": flat, "b": 2 * flat}, masks, draws=30)
    a, b = (figures[figures["method"] == name].reset_index(drop=True) for name in "ab")
    assert (
        a[list(METRICS)].drop(columns="pearson").to_numpy() == b[list(METRICS)].drop(columns="pearson").to_numpy()
    ).all()
    assert abs(a["weighted_tau"].mean()) < 0.2
