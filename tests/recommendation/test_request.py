from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.fabricated import DEVICE, fabricated_bundle, fabricated_predict, tokens_of
from thesis_rec.base.errors import ItemError
from thesis_rec.hardware.budget import Budget
from thesis_rec.knowledge.active_probing import ProbeBudget
from thesis_rec.recommendation.asking import recommend_for
from thesis_rec.recommendation.request import Asked, image_row, measurer, present_device, sharpen


def recommendation(bundle=None):
    return recommend_for(
        bundle or fabricated_bundle(), tokens_of("mine", 3), Budget(device=DEVICE), predict=fabricated_predict
    )


def asked(tmp_path):
    return Asked(image_row(tmp_path), tokens_of("mine", 3), (), ())


def test_folders_and_npz_files_are_recognised(tmp_path):
    assert image_row(tmp_path).loader == "folder"
    np.savez(tmp_path / "x.npz", images=np.zeros(1))
    row = image_row(tmp_path / "x.npz")
    assert (row.loader, row.dataset_id) == ("npz", "x")
    with pytest.raises(ItemError, match="no such folder or file"):
        image_row(tmp_path / "absent")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ItemError, match="neither a folder nor an NPZ"):
        image_row(tmp_path / "a.txt")


def test_probing_finds_the_best_model_the_prior_missed(tmp_path):
    bundle = fabricated_bundle()
    found = recommendation(bundle)
    truth = dict(zip(found.table["model_id"], found.table["predicted_value"], strict=True))
    # One model is far better than predicted.
    truth["m00"] = 0.97
    steps = []
    sharper = sharpen(
        found, bundle, asked(tmp_path), ProbeBudget(candidates=len(truth)), on_probe=steps.append, probe=truth.get
    )
    assert sharper.table["model_id"].iloc[0] == "m00"
    assert sharper.table["probed_value"].iloc[0] == 0.97
    assert sharper.table["rank"].tolist() == list(range(1, len(truth) + 1))
    assert len(steps) == len(truth)
    assert steps[-1].best == "m00"
    assert "really tried" in sharper.notes[-1]


def test_one_probe_narrows_its_interval_and_the_budget_stops(tmp_path):
    found = recommendation()
    sharper = sharpen(found, fabricated_bundle(), asked(tmp_path), ProbeBudget(candidates=2), probe=lambda m: 0.5)
    probed = sharper.table["probed_value"].notna()
    assert probed.sum() == 2
    assert (sharper.table["predicted_std"][probed] < 0.03).all()
    assert sharper.table["value_high"].le(1).all()
    none = sharpen(found, fabricated_bundle(), asked(tmp_path), ProbeBudget(seconds=0.0), probe=lambda m: 0.5)
    assert none.table["probed_value"].isna().all()
    assert none.table["model_id"].tolist() == found.table["model_id"].tolist()


def test_an_interrupt_keeps_what_was_learned(tmp_path):
    calls = []

    def probe(model_id):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(model_id)
        return 0.9

    sharper = sharpen(recommendation(), fabricated_bundle(), asked(tmp_path), ProbeBudget(candidates=9), probe=probe)
    assert set(sharper.table["model_id"][sharper.table["probed_value"].notna()]) == set(calls)
    assert any("interrupted" in note for note in sharper.notes)


def test_a_model_that_can_t_be_run_is_passed_over(tmp_path):
    best = recommendation().table["model_id"].iloc[0]

    def probe(model_id):
        if model_id == best:
            raise ItemError(model_id, "is damaged.", "")
        return 0.6

    bundle = replace(fabricated_bundle(), covariance=None)
    steps = []
    sharper = sharpen(
        recommendation(), bundle, asked(tmp_path), ProbeBudget(candidates=3), probe=probe, on_probe=steps.append
    )
    assert np.isnan(steps[0].value)
    assert sharper.table["probed_value"].notna().sum() == 3
    assert any(f"{best} couldn't be probed" in note for note in sharper.notes)


def test_models_that_can_t_be_loaded_are_not_measured(tmp_path, caplog):
    bundle = replace(fabricated_bundle(), models_root=tmp_path)
    measure = measurer(bundle, Budget(), "cpu")
    assert measure("m00") is None
    assert measure("no such model") is None
    assert "m00 can't be measured here" in caplog.text


def test_the_present_device_has_a_name():
    device, name = present_device()
    assert name.startswith(device)


def save_images(folder, n_classes=3, n=12, size=20):
    rng = np.random.default_rng(0)
    for c in range(n_classes):
        (folder / f"class_{c}").mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(0, 80, (size, size, 3)).astype(np.uint8)
            pixels[..., c % 3] += 120
            Image.fromarray(pixels).save(folder / f"class_{c}" / f"{i}.png")
    return folder


def test_a_linear_probe_of_a_real_model_on_real_files(tmp_path, monkeypatch):
    import torch

    from tests.pipelines.hardware_profiling.test_hardware_profiling_pipeline import save_tiny_model
    from thesis_rec.recommendation.request import PROBE_DRAWS, _probe_images, _sample, linear_prober
    from thesis_rec.truth import cells
    from thesis_rec.truth.linear_probe import probe_accuracies

    torch.manual_seed(0)
    save_tiny_model(tmp_path / "models" / "m00", width=48)
    bundle = replace(fabricated_bundle(), models_root=tmp_path, hub_cache=str(tmp_path))
    row = image_row(save_images(tmp_path / "images"))
    images = _probe_images(row)
    solved = []
    monkeypatch.setattr(cells, "probe_accuracies", lambda *given: solved.append(probe_accuracies(*given)) or solved[-1])
    value = linear_prober(bundle, images, "cpu")("m00")
    assert len(solved[0]) == PROBE_DRAWS
    assert value == pytest.approx(float(solved[0].mean()))
    # The classes are three colours: any network separates them.
    assert value > 0.8
    measured = measurer(bundle, Budget(batch_size=2), "cpu")("m00")
    assert measured["batch_size"].tolist() == [2]
    assert measured["latency_ms_p50"].iloc[0] > 0

    from pathlib import Path

    from thesis_rec.images.loading import open_split

    sample = _sample(open_split(row, "train", Path()), 0)
    assert len(sample) == 12
    assert {name for _, name in sample} == {"class_0", "class_1", "class_2"}
