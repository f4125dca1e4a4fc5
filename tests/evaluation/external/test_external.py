"""Methods on published tables: nothing of the target enters, and what must be found is found."""

import numpy as np
import pytest

from tests.evaluation.external.conftest import QUICK, task_of
from thesis_rec.base.errors import ConfigurationError
from thesis_rec.evaluation.external import methods
from thesis_rec.evaluation.external.benchmark import OURS, judge, our_method, run_benchmark, simple_methods
from thesis_rec.evaluation.external.methods import SmoothedRanks, Task, TrainedRanker, dataset_tokens, model_table
from thesis_rec.evaluation.external.tables import PublishedTable, load_published_table


def test_failed_runs_are_left_out_and_sources_are_placed(table):
    assert "food101" not in table.dataset_ids
    assert table.targets == ["svhn", "caltech101", "cifar100", "smallnorb_label_elevation", "dtd"]
    assert np.isfinite(table.source_distances).all()
    assert set(table.families) == {"vit", "swin", "convnext"}
    assert np.isnan(table.n_parameters).sum() == 1


def test_own_source_is_no_target(folder):
    spider = load_published_table(folder, "model_spider")
    cell = spider.values[spider.model_ids.index("FTD_resnet50_Pet"), spider.dataset_ids.index("Pet")]
    assert np.isnan(cell)
    assert spider.sub_zoos["zoo_42"].sum() == 6


def test_sub_zoos_are_parts(folder):
    site = load_published_table(folder, "site")
    part = site.select(site.sub_zoos["vit"])
    assert len(part.model_ids) == 5
    assert all(name.startswith("vit/") for name in part.model_ids)
    assert part.values == pytest.approx(site.values[site.sub_zoos["vit"]])


def test_missing_tables_and_unknown_names_are_said(tmp_path):
    with pytest.raises(ConfigurationError, match="THESIS_REC_BENCHMARKS"):
        load_published_table(tmp_path, "site")
    with pytest.raises(ConfigurationError, match="unknown benchmark"):
        load_published_table(tmp_path, "imagenet")


def every_method(table):
    return {**simple_methods(table), OURS: our_method(table)}


def test_the_targets_values_play_no_part(table):
    """Replace the target's column (values, run times, scores) by noise: no method may notice."""
    rng = np.random.default_rng(0)
    for target in ("dtd", "svhn"):
        task = task_of(table, target)
        values, seconds = table.values.copy(), table.seconds.copy()
        values[:, task.target] = rng.random(len(values))
        seconds[:, task.target] = rng.random(len(values))
        other = PublishedTable(**{**table.__dict__, "values": values, "seconds": seconds})
        changed = Task(other, task.target, task.columns, task.known)
        for name, method in every_method(table).items():
            assert method(task) == pytest.approx(method(changed), nan_ok=True), name


def test_unknown_models_values_play_no_part(table):
    known = np.arange(len(table.model_ids)) % 4 != 0
    values = np.where(known[:, None], table.values, 0.123)
    other = PublishedTable(**{**table.__dict__, "values": values})
    base = task_of(table)
    for name, method in every_method(table).items():
        one = method(Task(table, base.target, base.columns, known))
        two = method(Task(other, base.target, base.columns, known))
        assert one == pytest.approx(two, nan_ok=True), name
        if name not in ("parameter_count", "nearest_dataset"):
            assert np.isfinite(one[~known]).all(), name


def test_hidden_cells_are_missing(table):
    hidden = np.zeros(table.values.shape, bool)
    hidden[3, :] = True
    assert np.isnan(task_of(table, hidden=hidden).training()[3]).all()


def test_static_ranks_by_hand():
    values = np.array([[1.0, 3.0, 0.0], [2.0, 2.0, 0.0], [3.0, 1.0, 0.0], [4.0, np.nan, 0.0]])
    table = PublishedTable(
        "t", list("abcd"), list("xyz"), values, 1.0, ["z"], _metadata(4), list("ffgg"), np.full(4, np.nan)
    )
    score = methods.static_mean_rank(task_of(table, "z"))
    assert score == pytest.approx([0.5, (1 / 3 + 1 / 2) / 2, 1 / 3, 1.0])


def _metadata(count):
    import pandas as pd

    return pd.DataFrame({"size": np.arange(1.0, count + 1)})


def test_nearest_dataset_is_the_nearest(table):
    task = task_of(table)
    nearest = int(
        np.argmin(np.where(np.arange(len(table.dataset_ids)) == task.target, np.inf, table.distances[task.target]))
    )
    score = methods.nearest_dataset(task)
    both = np.isfinite(table.values[:, nearest])
    assert score[both] == pytest.approx(table.values[both, nearest])
    bare = PublishedTable(**{**table.__dict__, "distances": None})
    with pytest.raises(ValueError, match="no distances"):
        methods.nearest_dataset(task_of(bare))


def test_plain_static_view_orders_as_the_mean_rank(table):
    full = PublishedTable(**{**table.__dict__, "values": methods._fill_additively(table.values)})
    ours = SmoothedRanks((np.inf,), (False,))(task_of(full))
    static = methods.static_mean_rank(task_of(full))
    assert np.corrcoef(ours, static)[0, 1] == pytest.approx(1.0)


def test_judging_compares_on_the_same_targets(table):
    columns = [table.dataset_ids.index(t) for t in table.targets]
    perfect = np.nan_to_num(table.values[:, columns])
    found = judge(table, {"oracle": perfect, "static_mean_rank": -perfect}, QUICK)
    assert found["methods"]["oracle"]["weighted_tau"]["mean"] == pytest.approx(1.0)
    assert found["paired"]["oracle"]["weighted_tau"]["mean"] == pytest.approx(2.0)
    assert found["paired"]["oracle"]["weighted_tau"]["better"]
    assert found["paired"]["oracle"]["regret@1"]["better"]
    assert set(found["groups"]) == {"natural", "specialised"}
    assert set(found["per_dataset"]["oracle"]["weighted_tau"]) == set(table.targets)


@pytest.mark.parametrize("name", ["transfergraph", "site", "model_spider"])
def test_whole_documents_are_json_without_nan(folder, name):
    import json

    found = run_benchmark(load_published_table(folder, name), QUICK, folder=folder)
    text = json.dumps(found)
    assert "NaN" not in text
    assert set(found["quadrants"]) == {"Q1", "Q2", "Q3", "Q4"}
    assert abs(found["methods"]["random"]["weighted_tau"]["mean"]) < 0.6
    assert ("strict" in found) == ("budgets" in found) == (name == "transfergraph")
    assert ("sub_zoos" in found) == (name != "transfergraph")
    assert ("own_convention" in found) == (name == "model_spider")


def test_dataset_tokens_keep_neighbourhoods(table):
    tokens = dataset_tokens(table, components=5)
    assert [t.dataset_id for t in tokens] == table.dataset_ids
    lengths = [np.linalg.norm(t.features) for t in tokens]
    assert lengths == pytest.approx([1.0] * len(tokens))
    bare = PublishedTable(**{**table.__dict__, "distances": None})
    assert len({t.features.tobytes() for t in dataset_tokens(bare)}) == 1
    assert np.isfinite(model_table(table).embedding).all()


def test_the_projects_ranker_runs_on_a_published_table(table):
    score = TrainedRanker(epochs=2, width=16)(task_of(table))
    assert np.isfinite(score).all()
    assert score.std() > 0
