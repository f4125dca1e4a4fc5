from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from thesis_rec.errors import ItemError
from thesis_rec.hardware import profiling
from thesis_rec.hardware.fingerprint import Fingerprint, cpu_cores, device_fingerprint, slug
from thesis_rec.hardware.profiling import (
    COLUMNS,
    ProfileSettings,
    cast_weights,
    describe_backbone,
    measure_calls,
    median_interval,
    profile_backbone,
    summarise_times,
)

FAST = ProfileSettings(warmup=1, min_repeats=2, max_repeats=4, max_seconds=0.01)


def backbone(width: int = 4, size: int = 8):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten())
    return SimpleNamespace(network=network, features=network, input_size=size)


def test_counts_are_those_of_paper_and_pencil():
    found = describe_backbone(backbone(width=4, size=8))
    assert found.n_parameters == 4 * 3 * 9 + 4 + 4 + 4
    assert found.macs == 8 * 8 * 4 * 3 * 9
    # Convolution, normalisation and ReLU each make 4 x 8 x 8 floats; flattening makes none.
    assert found.activation_mb * profiling.MIB == pytest.approx(3 * 4 * 4 * 8 * 8, rel=0.05)
    assert found.n_operations == 3
    # The Sequential frees the input of a layer only when the next result exists: two alive at once.
    assert found.peak_activation_mb * profiling.MIB == pytest.approx(2 * 4 * 4 * 8 * 8, rel=0.05)
    assert found.weight_mb * profiling.MIB == 4 * (found.n_parameters + 4 + 4) + 8


def test_profile_has_one_row_per_cell_in_the_contract():
    model = backbone()
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    table = profile_backbone(model, "m", precisions=("fp32", "bf16"), batch_sizes=(1, 3), settings=FAST)
    assert list(table.columns) == COLUMNS
    assert sorted(zip(table["precision"], table["batch_size"], strict=True)) == [
        ("bf16", 1), ("bf16", 3), ("fp32", 1), ("fp32", 3),
    ]  # fmt: skip
    assert (table["device"] == device_fingerprint().device_id).all()
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

    broken = SimpleNamespace(network=model.network, features=features, input_size=8)
    table = profile_backbone(broken, "m", precisions=("fp32", "bf16"), batch_sizes=(1,), settings=FAST)
    assert table["precision"].tolist() == ["fp32"]
    assert "bf16, batch 1" in caplog.text
    with pytest.raises(ItemError, match="nothing could be profiled"):
        profile_backbone(broken, "m", precisions=("bf16",), batch_sizes=(1,), settings=FAST)


def test_unusable_models_and_precisions_are_named():
    with pytest.raises(ItemError, match="m: unknown precision 'int3'"):
        profile_backbone(backbone(), "m", precisions=("int3",))
    wrong = SimpleNamespace(network=nn.Linear(2, 2), features=nn.Linear(2, 2), input_size=8)
    with pytest.raises(ItemError, match="a forward pass failed"):
        profile_backbone(wrong, "m")


def test_measuring_stops_when_the_median_is_tight_or_time_is_up(monkeypatch):
    clock = iter(np.tile([1.0, 1.001], 500))
    monkeypatch.setattr(profiling, "_host_clock", lambda call: next(clock))
    tight = ProfileSettings(warmup=2, min_repeats=5, max_repeats=100, tolerance=0.01, max_seconds=60)
    assert len(measure_calls(lambda: None, "cpu", tight)[0]) == 5
    noisy = iter(np.tile([1.0, 9.0], 500))
    monkeypatch.setattr(profiling, "_host_clock", lambda call: next(noisy))
    assert len(measure_calls(lambda: None, "cpu", tight)[0]) == 100
    slow = iter([100.0] * 50)
    monkeypatch.setattr(profiling, "_host_clock", lambda call: next(slow))
    assert len(measure_calls(lambda: None, "cpu", ProfileSettings(warmup=9, max_seconds=0.0))[0]) == 3
    assert len(list(slow)) == 46  # one warm-up call, three counted


def test_the_median_s_interval_covers_in_simulation():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        low, high = median_interval(rng.exponential(size=31))
        hits += low <= np.log(2) <= high
    assert 0.93 <= hits / 400 <= 0.99


def test_summary_of_times():
    row = summarise_times(np.array([1.0, 2.0, 3.0, 10.0]), batch_size=8)
    assert row["latency_ms_p50"] == 2.5
    assert row["throughput"] == pytest.approx(4 * 8 / 0.016)
    assert row["latency_ms_p50_low"] <= 2.5 <= row["latency_ms_p50_high"]


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


def test_fingerprint_names_this_machine():
    found = device_fingerprint()
    assert found.device_id.startswith("cpu_")
    assert f"{cpu_cores()}c{torch.get_num_threads()}t" in found.device_id
    assert found.as_dict()["device_id"] == found.device_id
    assert found.memory_mb > 100


def test_fingerprints_are_readable_words():
    assert slug("Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz") == "intel-xeon-platinum-8481c"
    assert slug("") == "unknown"
    gpu = Fingerprint("cuda", "NVIDIA H200", 132, 0, "9.0", "2.11", 143000)
    assert gpu.device_id == "cuda_nvidia-h200_sm90_torch2.11"
