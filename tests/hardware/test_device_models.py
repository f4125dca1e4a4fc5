from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hub_hardware import fit_device_model

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.hardware.device_models import LARGER_BATCH_FACTOR, device_model, device_models, outside
from thesis_rec.hardware.prediction import figures
from thesis_rec.recommendation.candidates import resolve_device


def fabricated(n: int = 120, seed: int = 0):
    rng = np.random.default_rng(seed)
    macs = np.exp(rng.uniform(np.log(1e8), np.log(1e11), n))
    activation = np.exp(rng.uniform(np.log(5), np.log(500), n))
    counts = np.column_stack([macs, activation, macs / rng.uniform(50, 200, n), rng.integers(50, 500, n)])
    time = (macs / 2e9 + activation / 40) * np.exp(rng.normal(0, 0.1, n))
    return counts, time, np.array([f"f{i % 6}" for i in range(n)], dtype=object)


def test_held_out_families_are_predicted_and_the_margin_covers_them():
    counts, time, families = fabricated()
    model, held_out = fit_device_model(
        counts, time, families, device="cuda_x", precision="fp16", batches=(64, 256), source="made"
    )
    assert np.median(np.abs(np.exp(held_out) / time - 1)) < 0.2
    assert np.mean(np.abs(held_out - np.log(time)) <= model.margin + 1e-9) == pytest.approx(0.95, abs=0.01)
    value, margin = model.predict(counts, 1)
    # No figure is below the multiply-accumulates over the best rate that was measured.
    assert (np.exp(value) >= counts[:, 0] / (counts[:, 0] / time).max() * (1 - 1e-9)).all()
    np.testing.assert_allclose(margin, model.margin)


def test_a_model_far_outside_gets_a_wider_margin_and_an_unknown_count_no_figure():
    counts, time, families = fabricated()
    model, _ = fit_device_model(
        counts, time, families, device="cuda_x", precision="fp16", batches=(64, 256), source="made"
    )
    far = counts[:1] * [[1000.0, 1.0, 1000.0, 1.0]]
    _, margin = model.predict(far, 1)
    assert margin[0] > 3 * model.margin
    assert np.isnan(model.predict(np.array([[1e9, np.nan, 1e6, 100.0]]), 1)[0][0])
    np.testing.assert_allclose(outside(np.array([[0.0, 5.0]]), np.array([1.0, 1.0]), np.array([2.0, 2.0])), [3.0])


def test_a_gpu_s_time_at_large_batches_says_nothing_about_single_images():
    assert device_model("cuda_rtx4090", "fp16", 128) is not None
    assert device_model("cuda_rtx4090", "fp16", 1) is None
    assert device_model("cuda_rtx4090", "fp32", 128) is None
    assert device_model("cpu_i7-12700h_compiled", "fp32", 1) is not None
    assert all(model.source.startswith("timm:benchmark-infer") for model in device_models())


def test_a_processor_s_time_per_image_holds_for_larger_batches_less_surely():
    one = device_model("cpu_i7-12700h_compiled", "fp32", 1)
    assert one is not None
    assert device_model("cpu_i7-12700h_compiled", "fp32", 8) is one
    assert device_model("cuda_rtx4090", "fp16", 4096) is None
    counts = np.array([[4e9, 60.0, 2.5e7, 170.0]])
    (alone, margin), (eight, wider) = one.predict(counts, 1), one.predict(counts, 8)
    np.testing.assert_allclose(np.exp(eight - alone), 8.0)
    np.testing.assert_allclose(wider, np.hypot(margin, np.log(LARGER_BATCH_FACTOR)))


def test_a_known_device_answers_without_any_measurement_and_an_unknown_one_lists_them():
    profiles = pd.DataFrame(
        {
            "model_id": ["resnet50"], "device": ["cpu_x"], "precision": ["fp32"], "batch_size": [1],
            "latency_ms_p50": [60.0], "peak_memory_mb": [108.0], "n_parameters": [25.6e6], "macs": [4.09e9],
            "activation_mb": [87.3], "n_operations": [108],
        }
    )  # fmt: skip
    assert resolve_device("rtx4090", profiles) == "cuda_rtx4090"
    with pytest.raises(ConfigurationError, match=r"cpu_x.*cuda_rtx4090"):
        resolve_device("abacus", profiles)
    models = pd.DataFrame({"model_id": ["resnet50"], "family": ["resnet"]})
    found = figures(profiles, models, "cuda_rtx4090", "fp16", 128).iloc[0]
    assert found["basis"] == "predicted"
    assert found["latency_ms_low"] < found["latency_ms"] < found["latency_ms_safe"]
    # A 4090's tensor cores give about 165 TFLOP/s dense with fp32 sums: 128 images of 4.09 billion take over 6 ms.
    assert 6 < found["latency_ms"] < 128


def test_predictions_keep_the_floors_of_weights_and_of_arithmetic():
    rng = np.random.default_rng(1)
    rows = []
    for i in range(30):
        macs = float(np.exp(rng.uniform(np.log(1e8), np.log(1e10))))
        rows.append(
            {
                "model_id": f"m{i}", "device": "cpu_x", "precision": "fp32", "batch_size": 1,
                "latency_ms_p50": macs / 5e7 * float(np.exp(rng.normal(0, 0.2))), "peak_memory_mb": 20 + macs / 1e8,
                "n_parameters": macs / 200, "macs": macs, "activation_mb": macs / 1e8, "n_operations": 100,
            }
        )  # fmt: skip
    # Counted but never timed: all weights, little arithmetic; and the other way round.
    unseen = {"device": "cpu_y", "precision": "fp32", "batch_size": 1, "activation_mb": 10.0, "n_operations": 100}
    rows.append({"model_id": "wide", "n_parameters": 5e9, "macs": 1e8, **unseen})
    rows.append({"model_id": "deep", "n_parameters": 1e5, "macs": 1e14, **unseen})
    profiles = pd.DataFrame(rows)
    models = pd.DataFrame({"model_id": profiles["model_id"], "family": [f"f{i % 5}" for i in range(len(profiles))]})
    found = figures(profiles, models, "cpu_x").set_index("model_id")
    assert found.loc["wide", "memory_mb"] >= 4 * 5e9 / 2**20
    best = (profiles["macs"] / profiles["latency_ms_p50"]).max()
    assert found.loc["deep", "latency_ms_low"] >= 0.999 * 1e14 / best
    within = figures(
        profiles.assign(latency_ms_p50=profiles["latency_ms_p50"].where(profiles.index > 0)), models, "cpu_x"
    )
    ratio = found["latency_ms_safe"] / found["latency_ms"]
    inside = (within["latency_ms_safe"] / within["latency_ms"]).iloc[0]
    assert ratio["deep"] > inside


@pytest.mark.parametrize(
    ("present", "model"),
    [
        ("cuda_nvidia-geforce-rtx-4090_sm89_torch2.11", "cuda_rtx4090"),
        ("cuda_nvidia-rtx-pro-6000-blackwell-max-q-workstation-edition_sm120_torch2.11", "cuda_rtxpro6000maxq"),
        # Other chips of a like name.
        ("cuda_nvidia-geforce-rtx-4090-laptop-gpu_sm89_torch2.11", None),
        ("cuda_nvidia-geforce-rtx-4090-d_sm89_torch2.11", None),
        ("cuda_nvidia-rtx-pro-6000-blackwell-workstation-edition_sm120_torch2.11", None),
        # Its published figures are of compiled networks.
        ("cpu_i7-12700h_20c14t_torch2.11", None),
    ],
)
def test_a_present_device_is_the_one_that_others_measured_where_its_name_says_so(present, model):
    found = device_model(present, "fp32" if present.startswith("cpu") else "fp16", 1 if "cpu" in present else 128)
    assert (found.device if found else None) == model
