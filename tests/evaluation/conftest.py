"""A fabricated world's evaluation, with a recommender whose quality is known."""

import numpy as np
import pandas as pd
import pytest

from tests.world import make_world
from thesis_rec.evaluation.quadrant_evaluation import EvaluationSettings, evaluate
from thesis_rec.evaluation.study import assemble_study
from thesis_rec.knowledge.posterior import Posterior, Scale
from thesis_rec.knowledge.quadrants import assign_splits
from thesis_rec.truth.performance_records import clean_performance

FAST = ("random", "parameter_count", "static_mean_accuracy", "static_mean_z", "nearest_dataset", "matrix_factorisation")
SETTINGS = EvaluationSettings(
    baselines=(*FAST, "kernel_ridge"), transferability=("logme", "leep"), draws=5, bootstrap=200
)
NO_SCORES = pd.DataFrame(columns=["model_id", "dataset_id", "method", "value", "seconds"])


class Prophet:
    """A network that knows the truth up to noise of a known size."""

    def __init__(self, study_values, model_ids, dataset_ids, noise=0.03, std=0.03):
        self.values = pd.DataFrame(study_values, index=model_ids, columns=dataset_ids)
        self.noise, self.std = noise, std

    def predict(self, models, tasks):
        truth = self.values.loc[models.model_ids, [task.dataset_id for task in tasks]].to_numpy()
        places = [self.values.columns.get_loc(task.dataset_id) for task in tasks]
        errors = np.stack([np.random.default_rng(place).normal(size=len(truth)) for place in places], axis=1)
        value = truth + self.noise * errors
        return {"score": value * 10, "value": value, "std": np.full(value.shape, self.std)}


class Oracle:
    """Knowledge whose beliefs are the truth up to noise of a known size, alike for all models."""

    noise = 0.01

    def __init__(self, study, error=0.15):
        self.values = pd.DataFrame(study.values, index=study.models.model_ids, columns=study.dataset_ids)
        self.error = error

    def posterior(self, models, task, cells=()):
        scale = Scale(1.0 / len(task.class_names))
        truth = scale.latent(self.values.loc[models.model_ids, task.dataset_id].to_numpy())
        rng = np.random.default_rng(self.values.columns.get_loc(task.dataset_id))
        mean = truth + self.error * rng.normal(size=len(truth))
        size = len(models.model_ids)
        return Posterior(models.model_ids, mean, np.zeros((size, 1)), np.full(size, self.error**2), scale).given(cells)


@pytest.fixture(scope="session")
def tables():
    world = make_world(n_families=6, per_family=6, n_domains=12, subtasks=6, seed=1)
    info = world.dataset_manifest.assign(group=lambda t: np.where(np.arange(len(t)) % 2, "natural", "structured"))
    cells = clean_performance([world.records])
    families = dict(zip(world.models.model_ids, world.models.families, strict=True))
    sides = {"model_families": ["family5"], "dataset_families": ["domain10", "domain11"]}
    splits = assign_splits(cells, families, info, sides)
    return world, info, cells, splits


@pytest.fixture(scope="session")
def study(tables):
    world, info, cells, splits = tables
    return assemble_study(cells, splits, world.models, world.tokens, info)


@pytest.fixture(scope="session")
def transferability(study):
    rng = np.random.default_rng(0)
    rows = [
        (model, dataset, "logme", 2.0 + 3 * study.values[i, j] + 0.1 * rng.normal(), 0.5, "fabricated")
        for i, model in enumerate(study.models.model_ids)
        for j, dataset in enumerate(study.dataset_ids)
    ]
    rows += [(m, d, "leep", v if i % 3 else np.nan, 0.1, s) for i, (m, d, _, v, _, s) in enumerate(rows)]
    return pd.DataFrame(rows, columns=["model_id", "dataset_id", "method", "value", "seconds", "source"])


@pytest.fixture(scope="session")
def prophet(study):
    return Prophet(study.values, study.models.model_ids, study.dataset_ids)


@pytest.fixture(scope="session")
def oracle(study):
    return Oracle(study)


@pytest.fixture(scope="session")
def whole(study, prophet, oracle, transferability):
    ceiling = {"linear_probe": {"mean": 0.95, "low": 0.9, "high": 1.0}}
    return evaluate(study, prophet, transferability, SETTINGS, ceiling, oracle)
