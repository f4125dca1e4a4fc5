"""Responses against plain computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from thesis_rec.transferability import ScoreInput, nearest_class_mean
from thesis_rec.truth.linear_probe import ClassRows
from thesis_rec.truth.responses import (
    STATISTICS,
    geometry,
    kernel_alignment,
    landmark_rows,
    overlay_responses,
    projection_matrix,
    response_names,
    standardise,
    statistics,
)
from thesis_rec.truth.settings import ResponseSettings


def padded(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, list[tuple[np.ndarray, np.ndarray]]]:
    """Two tasks of unequal length, the second with a class of a single image."""
    rng = np.random.default_rng(seed)
    tasks = []
    for labels in (np.repeat([0, 1, 2], [7, 9, 8]), np.repeat([0, 1, 2], [6, 5, 1])):
        tasks.append((rng.normal(size=(3, 4))[labels] + rng.normal(size=(len(labels), 4)), labels))
    x, one_hot = torch.zeros(2, 24, 4, dtype=torch.float64), torch.zeros(2, 24, 3, dtype=torch.float64)
    for place, (features, labels) in enumerate(tasks):
        x[place, : len(labels)] = torch.from_numpy(features)
        one_hot[place, range(len(labels)), labels] = 1
    return x, one_hot, tasks


def test_nearest_mean_leaves_the_image_itself_out() -> None:
    x, one_hot, tasks = padded()
    expected = []
    for features, labels in tasks:
        hits = 0
        for i in range(len(labels)):
            kept = np.arange(len(labels)) != i
            distance = [
                np.linalg.norm(features[i] - features[kept & (labels == c)].mean(0))
                if (kept & (labels == c)).any()
                else np.inf
                for c in range(3)
            ]
            hits += int(np.argmin(distance) == labels[i])
        expected.append(hits / len(labels))
    labels = torch.where(one_hot.sum(-1) > 0, one_hot.argmax(-1), -1)
    np.testing.assert_allclose(nearest_class_mean(ScoreInput(x, labels)).numpy(), expected)


def test_alignment_is_the_correlation_of_centred_kernels() -> None:
    x, one_hot, tasks = padded(1)
    found = kernel_alignment(x, one_hot).numpy()
    for place, (features, labels) in enumerate(tasks):
        n = len(labels)
        centring = np.eye(n) - 1 / n
        kernel = centring @ features @ features.T @ centring
        target = centring @ (labels[:, None] == labels[None]) @ centring
        expected = (kernel * target).sum() / np.linalg.norm(kernel) / np.linalg.norm(target)
        assert found[place] == pytest.approx(expected)


def test_geometry_forgets_rotation_scale_and_width_but_not_structure() -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(20, 6)))
    rotation = torch.from_numpy(np.linalg.qr(rng.normal(size=(6, 6)))[0])
    settings = ResponseSettings(projections=50)
    projection = torch.from_numpy(projection_matrix(20, settings))
    base = geometry(x, projection)
    wider = torch.cat([x @ rotation * 7 + 3, torch.zeros(20, 4)], dim=1)
    np.testing.assert_allclose(geometry(wider, projection), base, atol=1e-10)
    other = geometry(torch.from_numpy(rng.normal(size=(20, 6))), projection)
    assert (other - base).norm() > 0.3 * base.norm()
    # A Gaussian projection of a vector of unit norm has entries of unit variance.
    assert 0.5 < base.square().mean() < 2.0


def test_landmarks_are_spread_evenly_and_never_repeated() -> None:
    rows = np.arange(10_000)
    classes, start = {}, 0
    for name, counts in {"a": [9] * 10, "b": [9] * 4, "c": [2, 2]}.items():
        classes[name] = []
        for count in counts:
            classes[name].append(ClassRows(rows[start : start + count], rows[:0]))
            start += count
    chosen = landmark_rows(["a", "b", "c"], classes, ResponseSettings(landmarks=24))
    assert len(chosen) == len(set(chosen.tolist())) == 24
    owner = ["a" if row < 90 else "b" if row < 126 else "c" for row in chosen]
    assert owner.count("c") == 4
    assert owner.count("a") == owner.count("b") == 10
    assert len({row // 9 for row in chosen if row < 90}) == 10
    assert len(landmark_rows(["c"], classes, ResponseSettings(landmarks=24))) == 4


def test_statistics_of_known_features() -> None:
    rng = np.random.default_rng(0)
    independent = torch.from_numpy(rng.normal(size=(5000, 8)))
    copied = torch.cat([independent[:, :1]] * 7 + [torch.full((5000, 1), 2.0)], dim=1)
    names = {name: place for place, name in enumerate(STATISTICS)}
    full, flat = statistics(independent), statistics(copied)
    assert full[names["effective_rank"]].exp() == pytest.approx(8, rel=0.01)
    assert full[names["participation_ratio"]].exp() == pytest.approx(8, rel=0.02)
    assert flat[names["effective_rank"]].exp() == pytest.approx(1, rel=0.01)
    assert flat[names["dead_share"]] == pytest.approx(1 / 8)
    assert full[names["log10_width"]] == pytest.approx(np.log10(8))
    one_hot = torch.eye(8, dtype=torch.float64).repeat(4, 1)
    assert statistics(one_hot)[names["sparsity"]] == pytest.approx(1.0)


def test_standardised_features_have_unit_variance_and_no_noise_from_constants() -> None:
    x = torch.tensor([[1.0, 5.0, 0.1], [3.0, 5.0, 0.1], [8.0, 5.0, 0.1]], dtype=torch.float64)
    z = standardise(x)
    assert z[:, 0].square().mean() == pytest.approx(1.0)
    assert (z[:, 1:] == 0).all()


def test_names_have_the_documented_order() -> None:
    names = response_names({"a": 3, "b": 4}, ResponseSettings(projections=3, subtasks=2))
    assert names[:4] == ["a/nearest_mean", "a/alignment", "a/linear_probe", "b/nearest_mean"]
    assert names[6:9] == ["geometry/000", "geometry/001", "geometry/002"]
    assert names[9] == "features/effective_rank"
    assert names[-2:] == ["reference_0000/subtask_probe", "reference_0001/subtask_probe"]
    assert len(names) == 11 + len(STATISTICS)
    assert response_names({}, ResponseSettings()) == []


def responses(ids: list[str], value: float, names: list[str]) -> dict[str, np.ndarray]:
    matrix = np.full((len(ids), len(names)), value, dtype=np.float32)
    return {"responses": matrix, "model_ids": np.array(ids), "names": np.array(names)}


def test_the_last_responses_of_a_model_count_and_other_banks_are_left_out(caplog) -> None:
    zoo, own = responses(["a", "b"], 0.0, ["x", "y"]), responses(["b", "c"], 1.0, ["x", "y"])
    joined = overlay_responses([zoo, own])
    assert dict(zip(joined["model_ids"].tolist(), joined["responses"][:, 0].tolist(), strict=True)) == {
        "a": 0.0,
        "b": 1.0,
        "c": 1.0,
    }
    assert joined["names"].tolist() == ["x", "y"]
    assert overlay_responses([zoo, responses(["d"], 1.0, ["x", "z"])])["model_ids"].tolist() == ["a", "b"]
    assert overlay_responses([zoo, responses(["d"], 1.0, ["x"])])["model_ids"].tolist() == ["a", "b"]
    assert caplog.text.count("another reference bank") == 2


def test_no_responses_at_all_are_an_empty_answer() -> None:
    assert overlay_responses([]) == {}
    assert overlay_responses([responses([], 0.0, [])]) == {}
