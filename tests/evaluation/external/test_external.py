"""Methods on published tables: nothing of the target enters, and what must be found is found."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist, squareform

from tests.evaluation.external.conftest import QUICK
from thesis_rec.base.errors import ConfigurationError
from thesis_rec.evaluation.external import (
    READERS,
    dataset_tokens,
    judge,
    nearest_dataset,
    network,
    published_table,
    run_benchmark,
    simple_methods,
    without,
)


def test_failed_runs_are_left_out(table):
    assert "food101" not in table.dataset_ids
    assert table.targets == ["svhn", "caltech101", "cifar100", "smallnorb_label_elevation", "dtd"]
    assert set(table.models.families) == {"vit", "swin", "convnext"}
    assert np.isnan(table.models.n_parameters).sum() == 1


def test_own_source_is_no_target(folder):
    spider = READERS["model_spider"](folder)
    cell = spider.values[spider.models.model_ids.index("FTD_resnet50_Pet"), spider.dataset_ids.index("Pet")]
    assert np.isnan(cell)
    assert len(spider.sub_zoos["zoo_42"].models) == 6


def test_sub_zoos_are_parts(folder):
    site = READERS["site"](folder)
    part = site.sub_zoos["vit"]
    assert len(part.models) == 5
    assert all(name.startswith("vit/") for name in part.models.model_ids)
    rows = [site.models.model_ids.index(name) for name in part.models.model_ids]
    assert part.values == pytest.approx(site.values[rows])


def test_missing_tables_are_said(tmp_path):
    with pytest.raises(ConfigurationError, match="THESIS_REC_BENCHMARKS"):
        READERS["site"](tmp_path)


def test_the_targets_values_play_no_part(table):
    """Replace the target's column by noise: no method may notice."""
    rng = np.random.default_rng(0)
    for target in ("dtd", "svhn"):
        j = table.dataset_ids.index(target)
        values = table.values.copy()
        values[:, j] = rng.random(len(values))
        other = replace(table, values=values)
        for name, method in simple_methods(table).items():
            one, two = (method(without(which, [target]))[:, j] for which in (table, other))
            assert one == pytest.approx(two, nan_ok=True), name


def test_unknown_models_values_play_no_part(table):
    known = np.arange(len(table.models.model_ids)) % 4 != 0
    other = replace(table, values=np.where(known[:, None], table.values, 0.123))
    for name, method in simple_methods(table).items():
        one, two = (method(without(which, ["dtd"], known)) for which in (table, other))
        assert one == pytest.approx(two, nan_ok=True), name
        if name != "nearest_dataset":
            assert np.isfinite(one[~known]).all(), name


def test_hidden_cells_are_missing(table):
    hidden = np.zeros(table.values.shape, bool)
    hidden[3, :] = True
    study = without(table, ["dtd"], hidden=hidden)
    assert np.isnan(study.training().values[3]).all()
    assert not study.allowed()[3].any()


def test_static_ranks_by_hand():
    values = np.array([[1.0, 3.0, 0.0], [2.0, 2.0, 0.0], [3.0, 1.0, 0.0], [4.0, np.nan, 0.0]])
    metadata = pd.DataFrame({"size": np.arange(1.0, 5)})
    frame = pd.DataFrame(values, list("abcd"), list("xyz"))
    table = published_table("t", frame, metadata, list("ffgg"), targets=["z"])
    score = simple_methods(table)["static_mean_rank"](without(table, ["z"]))[:, 2]
    assert score == pytest.approx([0.5, (1 / 3 + 1 / 2) / 2, 1 / 3, 1.0])


def test_nearest_dataset_is_the_nearest(table):
    j = table.dataset_ids.index("dtd")
    nearest = int(np.argmin(np.where(np.arange(len(table.dataset_ids)) == j, np.inf, table.distances[j])))
    score = nearest_dataset(without(table, ["dtd"]))[:, j]
    assert score == pytest.approx(table.values[:, nearest], nan_ok=True)


def test_judging_compares_on_the_same_targets(table):
    perfect = np.nan_to_num(table.values)
    found = judge(table, {"oracle": perfect, "static_mean_rank": -perfect}, QUICK)
    assert found["methods"]["oracle"]["weighted_tau"]["mean"] == pytest.approx(1.0)
    assert found["paired"]["oracle"]["weighted_tau"]["mean"] == pytest.approx(2.0)
    assert found["paired"]["oracle"]["weighted_tau"]["better"]
    assert found["paired"]["oracle"]["regret@1"]["better"]
    assert set(found["groups"]) == {"natural", "specialised"}


@pytest.mark.parametrize("name", ["transfergraph", "site", "model_spider"])
def test_whole_documents_are_json_without_nan(folder, name):
    import json

    found = run_benchmark(READERS[name](folder), QUICK, {})
    text = json.dumps(found)
    assert "NaN" not in text
    # The smaller tables have fewer than three hidden cells on each dataset.
    assert set(found["quadrants"]) - {"Q1"} == {"Q2", "Q3", "Q4"}
    assert ("Q1" in found["quadrants"]) == (name == "transfergraph")
    assert abs(found["methods"]["random"]["weighted_tau"]["mean"]) < 0.6
    assert ("sub_zoos" in found) == (name != "transfergraph")
    assert ("source_left_out" in found) == (name == "model_spider")


def test_datasets_and_models_have_finite_descriptions(table):
    assert [t.dataset_id for t in table.tasks] == table.dataset_ids
    assert [np.linalg.norm(t.features) for t in table.tasks] == pytest.approx([1.0] * len(table.tasks))
    assert len({t.features.tobytes() for t in dataset_tokens("t", table.dataset_ids, None)}) == 1
    assert np.isfinite(table.models.embedding).all()


def test_datasets_lie_as_far_apart_as_was_published():
    """Up to one factor, once each token is brought to the same height."""
    distances = pdist(np.random.default_rng(0).normal(size=(9, 4)))
    rows = np.stack([task.features[0, 0] for task in dataset_tokens("t", list("abcdefghi"), squareform(distances))])
    found = pdist(rows[:, :-1] / rows[:, -1:]) / distances
    assert found == pytest.approx(np.full(36, found[0]), rel=1e-4)


def test_the_projects_ranker_runs_on_a_published_table(table):
    score = network(without(table, ["dtd"]), epochs=2, width=16)
    assert np.isfinite(score).all()
    assert score.std() > 0
