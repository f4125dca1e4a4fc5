"""One model measured on a tiny bank."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from tests.truth.conftest import FakeBackbone, make_backbone
from thesis_rec.errors import ItemError
from thesis_rec.ranking.transferability import ScoreInput, log_me
from thesis_rec.truth.cells import (
    RECORD_COLUMNS,
    SCORE_COLUMNS,
    SCORES,
    ImageBank,
    TruthSettings,
    measure_model,
)
from thesis_rec.truth.linear_probe import ProbeSettings, draw_rows
from thesis_rec.truth.responses import ResponseSettings, response_names
from thesis_rec.truth.store import MeasuredTask, TaskImages

SETTINGS = TruthSettings(
    probe=ProbeSettings(shots=6, draws=2), response=ResponseSettings(landmarks=12, projections=5), batch_size=17
)
TASKS = [
    MeasuredTask("a", tuple(("a", c) for c in range(3))),
    MeasuredTask("b", tuple(("b", c) for c in range(4))),
    MeasuredTask("sub", (("a", 2), ("b", 1), ("b", 3)), draws=False),
]


def eager_features(backbone: FakeBackbone, pixels: np.ndarray) -> torch.Tensor:
    """Features by the textbook way, one image at a time."""
    outputs = []
    for image in pixels:
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        if x.shape[-1] != 8:
            x = torch.nn.functional.interpolate(x, (8, 8), mode="bilinear", antialias=True)
        x = (x - torch.tensor(backbone.mean).view(1, 3, 1, 1)) / torch.tensor(backbone.std).view(1, 3, 1, 1)
        with torch.no_grad():
            outputs.append(backbone.features(x))
    return torch.cat(outputs)


def test_a_model_is_measured_on_all_tasks(backbone: FakeBackbone, images: dict[str, TaskImages]) -> None:
    truth = measure_model(backbone, images, TASKS, ["ref"], SETTINGS)
    assert list(truth.records.columns) == RECORD_COLUMNS
    seeds = truth.records.groupby("dataset_id")["seed"].apply(list).to_dict()
    assert seeds == {"a": [0, 1], "b": [0, 1], "sub": [-1]}
    assert truth.records["value"].between(0, 1).all()
    assert set(truth.records["protocol"]) == {"linear_probe"}
    assert set(truth.records["model_id"]) == {"tiny"}
    n_train = truth.records.groupby("dataset_id")["n_train"].first().to_dict()
    assert n_train == {"a": 18, "b": 24, "sub": 18}
    assert list(truth.transferability.columns) == SCORE_COLUMNS
    assert set(zip(truth.transferability["dataset_id"], truth.transferability["method"], strict=True)) == {
        (task, method) for task in ("a", "b") for method in SCORES
    }
    assert truth.transferability["value"].notna().all()
    assert (truth.transferability["seconds"] > 0).all()
    assert truth.responses.shape == (len(response_names(["ref"], SETTINGS.response)),)
    assert np.isfinite(truth.responses).all()
    assert truth.responses.dtype == np.float32
    assert truth.seconds["total"] >= sum(v for k, v in truth.seconds.items() if k != "total") * 0.99


def test_truth_rows_are_those_of_the_plain_recipe(backbone: FakeBackbone, images: dict[str, TaskImages]) -> None:
    truth = measure_model(backbone, images, TASKS, [], SETTINGS)
    bank = ImageBank(images)
    every = np.concatenate(
        [
            eager_features(backbone, pixels).double().numpy()
            for task in images.values()
            for pixels in (task.train_images, task.test_images)
        ]
    )
    for task in TASKS:
        values = []
        for draw in range(2):
            train = [draw_rows(bank.classes[d][c], d, c, draw, SETTINGS.probe) for d, c in task.members]
            test = [bank.classes[d][c].test for d, c in task.members]
            y = np.repeat(np.arange(len(train)), [len(rows) for rows in train])
            scaler = StandardScaler().fit(every[np.concatenate(train)])
            model = Ridge(alpha=SETTINGS.probe.ridge * len(y)).fit(
                scaler.transform(every[np.concatenate(train)]), np.eye(len(train))[y]
            )
            predicted = model.predict(scaler.transform(every[np.concatenate(test)])).argmax(1)
            values.append((predicted == np.repeat(np.arange(len(test)), [len(rows) for rows in test])).mean())
        rows = truth.records[truth.records["dataset_id"] == task.dataset_id]
        expected = values if task.draws else [np.mean(values)]
        np.testing.assert_allclose(rows["value"], expected)


def test_scores_use_the_first_training_images_of_each_class(
    backbone: FakeBackbone, images: dict[str, TaskImages]
) -> None:
    truth = measure_model(backbone, images, TASKS[:1], [], dataclasses.replace(SETTINGS, score_images=7))
    task = images["a"]
    rows = np.concatenate([np.flatnonzero(task.train_labels == c)[:7] for c in range(3)])
    features = eager_features(backbone, task.train_images[rows])
    expected = log_me(ScoreInput(features, torch.from_numpy(task.train_labels[rows]))).item()
    frame = truth.transferability.set_index("method")["value"]
    assert frame["logme"] == pytest.approx(expected, abs=1e-4)


def test_a_model_without_head_has_no_leep(images: dict[str, TaskImages]) -> None:
    truth = measure_model(make_backbone(head=False), images, TASKS, [], SETTINGS)
    missing = truth.transferability.groupby("method")["value"].apply(lambda values: values.isna().all())
    assert missing["leep"]
    assert missing.sum() == 1
    assert truth.responses.shape == (0,)


def test_one_bank_serves_models_of_any_width(images: dict[str, TaskImages]) -> None:
    bank = ImageBank(images)
    for width in (3, 12, 40):
        backbone = make_backbone(width=width)
        shared = measure_model(backbone, bank, TASKS, ["ref"], SETTINGS)
        alone = measure_model(backbone, images, TASKS, ["ref"], SETTINGS)
        np.testing.assert_allclose(shared.records["value"], alone.records["value"])
        np.testing.assert_allclose(shared.responses, alone.responses, rtol=1e-5)
    assert bank.bench(TASKS, ["ref"], SETTINGS) is bank.bench(list(TASKS), ["ref"], SETTINGS)


def test_without_scores_the_table_is_empty(backbone: FakeBackbone, images: dict[str, TaskImages]) -> None:
    truth = measure_model(backbone, images, TASKS, [], dataclasses.replace(SETTINGS, scores=()))
    assert truth.transferability.empty
    assert list(truth.transferability.columns) == SCORE_COLUMNS
    only = measure_model(backbone, images, TASKS[2:], [], SETTINGS)
    assert only.transferability.empty
    assert only.records["dataset_id"].tolist() == ["sub"]


def test_broken_models_and_images_are_named(images: dict[str, TaskImages]) -> None:
    broken = make_backbone("nan_model")
    broken.features = lambda x: torch.full((len(x), 12), torch.nan)
    with pytest.raises(ItemError, match=r"nan_model.*finite"):
        measure_model(broken, images, TASKS, [], SETTINGS)
    broken.features = lambda x: x
    with pytest.raises(ItemError, match="shape"):
        measure_model(broken, images, TASKS, [], SETTINGS)
    grey = dataclasses.replace(images["a"], test_images=images["a"].test_images[..., 0])
    with pytest.raises(ItemError, match="uint8"):
        ImageBank({"a": grey})
    with pytest.raises(ValueError, match="unknown transferability scores"):
        measure_model(make_backbone(), images, TASKS, [], dataclasses.replace(SETTINGS, scores=("nope",)))


def test_a_full_memory_halves_the_batch(images: dict[str, TaskImages]) -> None:
    backbone = make_backbone()
    sizes: list[int] = []

    def small_only(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        if len(x) > 40:
            raise torch.OutOfMemoryError("too much")
        return backbone.network(x)

    limited = dataclasses.replace(backbone, features=small_only)
    settings = dataclasses.replace(SETTINGS, batch_size=100)
    found = measure_model(limited, images, TASKS, [], settings)
    expected = measure_model(backbone, images, TASKS, [], settings)
    np.testing.assert_allclose(found.records["value"], expected.records["value"])
    assert sizes[0] > 40
    assert max(sizes[2:]) <= 50
