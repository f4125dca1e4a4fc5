import numpy as np
import pytest

from thesis_rec.base.tables import ModelTable
from thesis_rec.knowledge.posterior import Cell, Posterior
from thesis_rec.knowledge.strangers import ADVANTAGE, strangers, with_strangers


def table(sizes):
    names = [f"m{i}" for i in range(len(sizes))]
    return ModelTable(names, np.zeros((len(sizes), 1), np.float32), ["a"] * len(sizes), np.array(sizes))


def test_who_was_never_measured_and_has_another_size_is_a_stranger():
    models = table([100, 200, 150, 201, 99, 0, 5000])
    assert strangers(models, {"m0", "m1", "m6"}).tolist() == [False, False, False, False, True, True, False]
    assert strangers(models, {"m0", "m1"}).tolist() == [False, False, False, True, True, True, True]
    # Where no size is known nothing is far.
    assert not strangers(table([0, 0, 9]), {"m0", "m1"}).any()


def test_a_stranger_is_wide_and_a_try_of_it_moves_the_others_alike():
    rng = np.random.default_rng(0)
    factor = np.column_stack([np.full(5, 0.5), rng.normal(size=(5, 3))])
    factor[:4, 1:] -= factor[:4, 1:].mean(0)
    before = Posterior([f"m{i}" for i in range(5)], rng.normal(size=5), factor, np.full(5, 0.1))
    strange = np.array([False] * 4 + [True])
    belief = with_strangers(before, strange)
    np.testing.assert_array_equal(belief.mean[:4], before.mean[:4])
    assert belief.mean[4] == pytest.approx(before.mean[:4].mean() + ADVANTAGE[0])
    assert belief.std[4] > np.sqrt(np.square(before.std[:4]).mean() + ADVANTAGE[1] ** 2)
    after = belief.given([Cell("m4", 0.99, 0.01)])
    moved = after.mean[:4] - belief.mean[:4]
    # What they share is how hard the dataset is, so that nothing is learned of one of them beside the others.
    np.testing.assert_allclose(moved, moved[0], atol=1e-9)
    assert moved[0] > 0
    assert with_strangers(before, np.zeros(5, dtype=bool)) is before


def test_the_advantage_is_what_was_measured(project_dir):
    import pandas as pd
    from scipy.stats import norm, t

    from thesis_rec.knowledge.posterior import Scale

    raw = project_dir / "data" / "01_raw"
    toys = pd.read_csv(raw / "starter" / "model_manifest.csv").set_index("model_id")["n_parameters"]
    real = pd.read_csv(raw / "real" / "model_manifest.csv").set_index("model_id")["n_parameters"]
    far = real.index[real > toys.max()]
    cells = pd.read_parquet(raw / "real" / "performance_records.parquet")
    values = cells.pivot_table(index="dataset_id", columns="model_id", values="value")
    # fmt: off
    classes = {
        "real_bccd_cells": 3, "real_clothing": 10, "real_coffee_leaf": 5, "real_deep_pcb": 6, "real_math_symbols": 18,
        "real_mnist": 10, "real_omniglot": 100, "real_spoken_digit_spectrogram": 10,
    }
    # fmt: on
    found = []
    for dataset, row in values.iterrows():
        scale = Scale(1 / classes[dataset])
        found.extend(scale.latent(row[far].to_numpy()) - scale.latent(row[toys.index].to_numpy()).mean())
    assert len(found) == 72
    wider = t(7).ppf(0.95) / norm.ppf(0.95) * np.sqrt(1 + 1 / 8)
    assert (np.mean(found), np.std(found, ddof=1) * wider) == pytest.approx(ADVANTAGE, abs=0.005)
