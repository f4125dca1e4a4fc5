from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from tests.hardware.small_backbone import FAST, backbone
from thesis_rec.base.errors import ItemError
from thesis_rec.hardware.fingerprint import device_id
from thesis_rec.hardware.profiling import COLUMNS, cast_weights, profile_backbone

HUB = Path(__file__).parents[2] / "data/01_raw/hub"
BOTH = FAST.model_copy(update={"precisions": ("fp32", "bf16")})


def test_profile_has_one_row_per_cell_in_the_contract():
    model = backbone()
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    table = profile_backbone(model, "cpu", BOTH.model_copy(update={"batch_sizes": (1, 3)}))
    assert list(table.columns) == COLUMNS
    assert sorted(zip(table["precision"], table["batch_size"], strict=True)) == [
        ("bf16", 1), ("bf16", 3), ("fp32", 1), ("fp32", 3),
    ]  # fmt: skip
    assert (table["device"] == device_id()).all()
    assert (table["latency_ms_p50"] > 0).all()
    assert (table["latency_ms_p95"] >= table["latency_ms_p50"]).all()
    assert table["n_parameters"].eq(120).all()
    memory = table.set_index(["precision", "batch_size"])["peak_memory_mb"]
    assert memory["fp32", 3] > memory["fp32", 1]
    assert memory["fp32", 3] > memory["bf16", 3]
    after = model.network.state_dict()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)


def test_one_failing_precision_leaves_the_others(caplog):
    model = backbone()

    def features(x):
        if x.dtype is not torch.float32:
            raise RuntimeError("not implemented for 'BFloat16'")
        return model.network(x)

    broken = SimpleNamespace(model_id="m", network=model.network, features=features, input_size=8)
    table = profile_backbone(broken, "cpu", BOTH)
    assert table["precision"].tolist() == ["fp32"]
    assert "bf16, batch 1" in caplog.text
    with pytest.raises(ItemError, match="nothing could be profiled"):
        profile_backbone(broken, "cpu", FAST.model_copy(update={"precisions": ("bf16",)}))


def test_unusable_models_are_named():
    wrong = SimpleNamespace(model_id="m", network=nn.Linear(2, 2), features=nn.Linear(2, 2), input_size=8)
    with pytest.raises(ItemError, match="a forward pass failed"):
        profile_backbone(wrong, "cpu", FAST)


def test_cast_restores_weights_when_the_block_fails():
    model = nn.Linear(3, 3)
    before = model.weight.detach().clone()

    def fail():
        with cast_weights(model, "bf16"):
            assert model.weight.dtype is torch.bfloat16
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(model.weight, before)


def test_shipped_figures_of_a_gpu_hold_its_results_and_stay_below_its_peak():
    # An H200's data sheet: 989 TFLOP/s of dense tensor cores in half precision, half of that with TF32.
    peak = {"fp16": 989.0, "bf16": 989.0, "fp32": 494.5}
    profiles = pd.read_parquet(HUB / "hardware_profiles.parquet")
    profiles = profiles[profiles["device"].str.contains("h200")].drop_duplicates(["source", "precision", "batch_size"])
    rate = 2e-9 * profiles["macs"] * profiles["batch_size"] / profiles["latency_ms_p50"]
    assert (rate < profiles["precision"].map(peak)).all()
    manifest = pd.read_csv(HUB / "model_manifest.csv", dtype=str).dropna(subset="architecture")
    sizes = manifest.drop_duplicates("architecture").set_index("architecture")["input_size"].astype(float)
    pixels = profiles["source"].str.removeprefix("measured:").map(sizes) ** 2
    images = 3 * pixels * profiles["batch_size"] * np.where(profiles["precision"] == "fp32", 4, 2) / 2**20
    results = profiles.assign(beside=profiles["peak_memory_mb"] - images)
    wide = results.pivot_table("beside", ["source", "precision"], "batch_size").dropna(subset=[1, 32])
    assert (wide[32] > wide[1] + 1.0).all()
    assert len(wide) > 1000
