import numpy as np
import pandas as pd
import pytest

from thesis_rec.knowledge.posterior import ADVANTAGE, Cell, Posterior, strangers, with_strangers


def table(sizes, resolution=np.nan, corpus=None):
    names = [f"m{i}" for i in range(len(sizes))]
    return pd.DataFrame({"n_parameters": sizes, "resolution": resolution, "corpus": corpus}, index=names)


def test_who_was_never_measured_and_has_another_size_is_a_stranger():
    models = table([100, 200, 150, 201, 99, 0, 5000])
    found, otherwise = strangers(models, {"m0", "m1", "m6"})
    assert found == {
        "m4": "it has 99 weights, the measured models have 100 to 5,000",
        "m5": "its weights were never counted",
    }
    assert not otherwise
    assert list(strangers(models, {"m0", "m1"})[0]) == ["m3", "m4", "m5", "m6"]
    # Where no size is known nothing is far.
    assert strangers(table([0, 0, 9]), {"m0", "m1"}) == ({}, {})


def test_who_sees_other_images_or_learned_from_another_corpus_is_a_stranger_where_that_is_known():
    corpus = ["laion", "laion", "laion", "webli", None]
    models = table([9] * 5, [224, 256, 512, 224, np.nan], corpus)
    of_another_size, otherwise = strangers(models, {"m0", "m1"})
    assert not of_another_size
    assert otherwise == {
        "m2": "it sees images of 512 pixels, the measured models of 224 to 256",
        "m3": "it learned from webli, which no measured model did",
    }
    # Of measured models whose corpus isn't known nobody can say that it is another one.
    assert strangers(table([9, 9], corpus=[None, "webli"]), {"m0"}) == ({}, {})


def test_a_stranger_is_wide_and_a_try_of_it_moves_the_others_alike():
    rng = np.random.default_rng(0)
    factor = np.column_stack([np.full(5, 0.5), rng.normal(size=(5, 3))])
    factor[:4, 1:] -= factor[:4, 1:].mean(0)
    before = Posterior([f"m{i}" for i in range(5)], rng.normal(size=5), factor, np.full(5, 0.1))
    strange = np.array([False] * 4 + [True])
    belief = with_strangers(before, strange)
    np.testing.assert_array_equal(belief.mean[:4], before.mean[:4])
    assert belief.mean[4] == pytest.approx(before.mean[:4].mean() + ADVANTAGE[0])
    # What all share, and what one model from afar was measured to differ by: how toys differ is no part of it.
    assert belief.std[4] == pytest.approx(np.sqrt(0.5**2 + ADVANTAGE[1] ** 2 + ADVANTAGE[2] ** 2))
    after = belief.given([Cell("m4", 0.99, 0.01)])
    moved = after.mean[:4] - belief.mean[:4]
    # What they share is how hard the dataset is, so that nothing is learned of one of them beside the others.
    np.testing.assert_allclose(moved, moved[0], atol=1e-9)
    assert moved[0] > 0
    assert with_strangers(before, np.zeros(5, dtype=bool)) is before


def test_a_try_of_one_stranger_tells_most_of_the_others():
    before = Posterior([f"m{i}" for i in range(5)], np.zeros(5), np.full((5, 1), 0.1), np.full(5, 0.1))
    belief = with_strangers(before, np.array([False, False, False, True, True]))
    moved = belief.given([Cell("m3", 0.95, 0.01)]).mean - belief.mean
    share = (0.1**2 + ADVANTAGE[1] ** 2) / (0.1**2 + ADVANTAGE[1] ** 2 + ADVANTAGE[2] ** 2)
    assert moved[4] / moved[3] == pytest.approx(share, abs=0.01)
    assert 0 < moved[0] < 0.1 * moved[4]


def test_a_model_that_could_be_any_of_some_has_their_mean_and_all_their_variance():
    rng = np.random.default_rng(0)
    before = Posterior([f"m{i}" for i in range(5)], rng.normal(size=5), rng.normal(size=(5, 3)), np.full(5, 0.1))
    like = np.array([True, True, True, False, False])
    belief = with_strangers(before, np.array([False] * 4 + [True]), like)
    assert belief.mean[4] == pytest.approx(before.mean[:3].mean())
    # The law of total variance, of a mixture of three.
    assert belief.std[4] ** 2 == pytest.approx(np.square(before.std[:3]).mean() + before.mean[:3].var())


def test_the_advantage_is_what_was_measured(project_dir):
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
    rows = []
    for dataset, row in values.iterrows():
        scale = Scale(1 / classes[dataset])
        rows.append(scale.latent(row[far].to_numpy()) - scale.latent(row[toys.index].to_numpy()).mean())
    found = np.array(rows)
    assert found.shape == (8, 9)
    # Analysis of variance of datasets (rows) and kinds (columns), with one value in each cell.
    table = pd.DataFrame(found, columns=[name.split("_")[0] for name in far]).T.groupby(level=0).mean().T.to_numpy()
    assert table.shape == (8, 4)
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    own = np.square(rest).sum() / (7 * 3)
    datasets, kinds = table.mean(axis=1).var(ddof=1) - own / 4, table.mean(axis=0).var(ddof=1) - own / 8
    wider = [t(n - 1).ppf(0.95) / norm.ppf(0.95) * np.sqrt(1 + 1 / n) for n in (8, 4)]
    together, alone = np.sqrt(datasets) * wider[0], np.sqrt(kinds * wider[1] ** 2 + own)
    assert (table.mean(), together, alone) == pytest.approx(ADVANTAGE, abs=0.005)
