from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from thesis_rec.hardware.contexts import REPEATABILITY, context_tables
from thesis_rec.hardware.prediction import ENOUGH, UNKNOWN_CONTEXT_FACTOR, UNKNOWN_MEMORY_FACTOR, _best_rate, figures


def fabricate(n_families: int = 8, each: int = 10, noise: float = 0.05, seed: int = 0):
    """Models whose latency follows physics (launches plus arithmetic) with an efficiency of their family."""
    rng = np.random.default_rng(seed)
    rows, models = [], []
    for family in range(n_families):
        efficiency = np.exp(rng.normal(0, 0.3))
        for member in range(each):
            operations = rng.integers(20, 200)
            macs = np.exp(rng.uniform(np.log(1e6), np.log(1e9)))
            parameters = macs / rng.uniform(20, 60)
            model_id = f"f{family}_{member}"
            models.append({"model_id": model_id, "family": f"f{family}", "n_parameters": parameters})
            for device, rate, launch in (("cpu_a", 1e7, 0.005), ("cuda_b", 1e9, 0.01)):
                for batch in (1, 32):
                    latency = (launch * operations + batch * macs / rate) * efficiency * np.exp(rng.normal(0, noise))
                    rows.append({
                        "model_id": model_id, "device": device, "precision": "fp32", "batch_size": batch,
                        "latency_ms_p50": latency, "latency_ms_p50_high": latency * 1.02,
                        "peak_memory_mb": parameters * 4e-6 + batch * macs * 1e-8,
                        "n_parameters": parameters, "macs": macs, "activation_mb": macs * 1e-8,
                        "n_operations": operations,
                    })  # fmt: skip
    return pd.DataFrame(rows), pd.DataFrame(models)


def test_measured_figures_are_passed_on_and_marked():
    profiles, models = fabricate()
    found = figures(profiles, models, "cpu_a")
    exact = profiles[(profiles["device"] == "cpu_a") & (profiles["batch_size"] == 1)]
    np.testing.assert_allclose(found["latency_ms"], exact["latency_ms_p50"])
    np.testing.assert_allclose(found["latency_ms_safe"], REPEATABILITY * exact["latency_ms_p50"])
    slow = profiles.assign(latency_ms_p50_high=2 * profiles["latency_ms_p50"])
    np.testing.assert_allclose(figures(slow, models, "cpu_a")["latency_ms_safe"], 2 * exact["latency_ms_p50"])
    np.testing.assert_allclose(found["throughput"], 1000 / exact["latency_ms_p50"])
    assert found["basis"].eq("measured").all()
    assert found["model_id"].tolist() == models["model_id"].tolist()


def test_held_out_families_are_predicted_from_the_other_device_within_the_margin():
    profiles, models = fabricate()
    violations, covered, errors = 0, [], []
    for family in models["family"].unique():
        held_out = models["family"] == family
        hidden = profiles["model_id"].isin(models["model_id"][held_out]) & (profiles["device"] == "cuda_b")
        found = figures(profiles[~hidden], models, "cuda_b").set_index("model_id")
        truth = profiles[(profiles["device"] == "cuda_b") & (profiles["batch_size"] == 1)]
        truth = truth.set_index("model_id")["latency_ms_p50"]
        new = found[found["basis"] == "predicted"]
        assert set(new.index) == set(models["model_id"][held_out])
        actual = truth.reindex(new.index)
        covered.append((actual <= new["latency_ms_safe"]).mean())
        assert (new["latency_ms_low"] <= new["latency_ms"]).all()
        errors.append(np.abs(np.log(actual / new["latency_ms"])).mean())
        budget = truth.quantile(0.5)
        chosen = new[new["latency_ms_safe"] <= budget]
        violations += int((truth.reindex(chosen.index) > budget).sum())
    assert np.mean(covered) >= 0.9
    assert violations <= 1
    assert np.mean(errors) < 0.35


def test_counts_alone_are_the_fallback():
    profiles, models = fabricate()
    new = pd.DataFrame({"model_id": ["new"], "family": ["f9"], "n_parameters": [1e6]})
    found = figures(profiles, pd.concat([models, new], ignore_index=True), "cpu_a").iloc[-1]
    assert found["basis"] == "predicted"
    assert found["latency_ms_low"] < found["latency_ms"] < found["latency_ms_safe"]
    # Parameters alone say little: the interval has to be wide.
    assert found["latency_ms_safe"] / found["latency_ms"] > 1.5


@pytest.mark.parametrize(("device", "precision", "each"), [("cpu_a", "fp32", 4), ("cuda_b", "fp16", 2)])
def test_memory_is_of_the_checkpoint_s_own_weights_whatever_its_architecture_was_measured_with(device, precision, each):
    """45 real models were measured with a classifier of another size: up to 163 MiB too much, or 102 too little."""
    profiles, models = fabricate()
    profiles = profiles.assign(precision=precision)
    before = figures(profiles, models, device, precision)
    larger = models.assign(n_parameters=models["n_parameters"].where(models["model_id"] != "f0_0", lambda n: n + 2**20))
    found = figures(profiles, larger, device, precision)
    np.testing.assert_allclose((found["memory_mb"] - before["memory_mb"])[1:], 0)
    assert found["memory_mb"][0] - before["memory_mb"][0] == pytest.approx(each)
    assert found["memory_mb_safe"][0] - before["memory_mb_safe"][0] == pytest.approx(each)
    np.testing.assert_allclose(found["latency_ms"], before["latency_ms"])


@pytest.mark.parametrize("device", ["cpu_a", "cpu_other"])
def test_no_time_is_told_by_weights_alone_where_none_as_many_were_measured(device):
    """A ResNet-18 beside toys of a hundredth its size was said to take a third of their time."""
    profiles, models = fabricate()
    new = pd.DataFrame({"model_id": ["huge"], "family": ["f9"], "n_parameters": [100 * models["n_parameters"].max()]})
    found = figures(profiles, pd.concat([models, new], ignore_index=True), device).iloc[-1]
    assert found["basis"] == "unknown"
    assert np.isnan(found["latency_ms"])
    # Memory is largely the weights.
    assert found["memory_mb"] >= found["n_parameters"] * 4 / 2**20


def test_a_model_of_which_nothing_is_known_stays_unknown():
    profiles, models = fabricate()
    new = pd.DataFrame({"model_id": ["new"], "family": ["f9"], "n_parameters": [np.nan]})
    found = figures(profiles, pd.concat([models, new], ignore_index=True), "cpu_a").iloc[-1]
    assert found["basis"] == "unknown"
    assert np.isnan(found["latency_ms_safe"])


def test_a_model_that_was_measured_nowhere_is_less_certain_on_an_unknown_device():
    profiles, models = fabricate()
    profiles = profiles[(profiles["device"] == "cpu_a") & (profiles["model_id"] != "f0_0")]
    row = models["model_id"].eq("f0_0").to_numpy()
    here, there = (figures(profiles, models, device) for device in ("cpu_a", "cpu_other"))
    own = np.log(here["memory_mb_safe"][row] / here["memory_mb"][row])
    assert own.item() > 0
    margin = np.log(there["memory_mb_safe"][row] / there["memory_mb"][row])
    np.testing.assert_allclose(margin, np.hypot(own, np.log(UNKNOWN_MEMORY_FACTOR)))


def test_an_unknown_device_takes_the_closest_with_a_wide_margin():
    profiles, models = fabricate()
    found = figures(profiles, models, "cpu_other")
    like = figures(profiles, models, "cpu_a")
    np.testing.assert_allclose(found["latency_ms"], like["latency_ms"])
    np.testing.assert_allclose(found["latency_ms_safe"], UNKNOWN_CONTEXT_FACTOR * like["latency_ms"])
    # What a model holds in memory hardly depends on the device, but on the precision it does.
    np.testing.assert_allclose(found["memory_mb_safe"], UNKNOWN_MEMORY_FACTOR * like["memory_mb"])
    halves = figures(profiles, models, "cpu_other", "bf16")
    np.testing.assert_allclose(halves["memory_mb_safe"], UNKNOWN_CONTEXT_FACTOR * halves["memory_mb"])
    assert found["basis"].eq("predicted").all()
    # A few measurements on the device itself shift the rest and narrow the margin.
    few = profiles[(profiles["device"] == "cpu_a") & profiles["model_id"].isin(["f0_0", "f1_0", "f2_0"])]
    few = few.assign(device="cpu_other", latency_ms_p50=3 * few["latency_ms_p50"], latency_ms_p50_high=np.nan)
    found = figures(pd.concat([profiles, few]), models, "cpu_other").set_index("model_id")
    reference = like.set_index("model_id").loc["f3_3", "latency_ms"]
    np.testing.assert_allclose(found.loc["f3_3", "latency_ms"], 3 * reference)
    assert found.loc["f3_3", "latency_ms_safe"] / found.loc["f3_3", "latency_ms"] == pytest.approx(2.0)
    assert found.loc["f0_0", "basis"] == "measured"


def test_the_same_device_tells_most_then_its_kind_then_the_same_precision():
    profiles, models = fabricate()
    profiles = profiles[profiles["device"] == "cpu_a"]
    # In no order that anything else could sort them by; each as many times as slow as its place.
    order = [("cuda_b", "fp16"), ("cuda_a", "fp32"), ("cuda_c", "bf16"), ("cpu_z", "fp32"), ("cpu_y", "bf16")]
    slower = [
        profiles.assign(device=device, precision=precision, latency_ms_p50=place * profiles["latency_ms_p50"])
        for place, (device, precision) in enumerate(order, start=1)
    ]
    reference = profiles[profiles["batch_size"] == 1].set_index("model_id")["latency_ms_p50"]
    for place in range(1, 6):
        left = pd.concat(slower[place - 1 :][::-1])
        found = figures(left, models, "cuda_b", "fp32").set_index("model_id")["latency_ms"]
        np.testing.assert_allclose(found, place * reference[found.index])


def test_nothing_profiled_at_all():
    profiles, models = fabricate()
    found = figures(profiles.iloc[:0], models, "cpu_a")
    assert found["basis"].eq("unknown").all()
    np.testing.assert_allclose(found["n_parameters"], models["n_parameters"])


def test_batch_sizes_between_and_beyond_measured_ones():
    rows = pd.DataFrame({
        "model_id": "m", "device": "d", "precision": "fp32", "batch_size": [1, 8, 32],
        "latency_ms_p50": [1.0, 8.0, 20.0], "peak_memory_mb": [2.0, 9.0, 33.0],
    })  # fmt: skip
    at_16 = context_tables(rows, 16)["d", "fp32"].loc["m"]
    assert at_16["latency_ms_p50"] == pytest.approx(8 + 8 * 0.5)
    assert at_16["latency_ms_p50_safe"] == 20.0
    assert not at_16["exact"]
    at_64 = context_tables(rows, 64)["d", "fp32"].loc["m"]
    assert at_64["latency_ms_p50"] == pytest.approx(36.0)
    assert at_64["latency_ms_p50_safe"] == pytest.approx(40.0)
    one = context_tables(rows.iloc[:1], 4)["d", "fp32"].loc["m"]
    assert one["latency_ms_p50"] == one["latency_ms_p50_safe"] == 4.0
    # A quarter of the memory are weights, in fp16 an eighth: they don't grow with the batch.
    half = rows.iloc[:1].assign(n_parameters=2**17, precision="fp16")
    for weights, memory in ((rows.iloc[:1].assign(n_parameters=2**17), 0.5 + 4 * 1.5), (half, 0.25 + 4 * 1.75)):
        (found,) = context_tables(weights, 4).values()
        assert found.loc["m", "peak_memory_mb"] == found.loc["m", "peak_memory_mb_safe"] == memory
    models = pd.DataFrame({"model_id": ["m"], "family": ["f"]})
    assert figures(rows, models, "d", batch_size=16)["basis"].tolist() == ["interpolated"]


def test_beyond_the_largest_measured_batch_time_grows_even_where_the_line_falls():
    profiles, models = fabricate()
    device = (profiles["device"] == "cuda_b") & (profiles["model_id"] == "f0_0")
    macs = float(profiles.loc[device, "macs"].iloc[0])
    for batch, latency in ((1, 4.0), (32, 3.2)):
        profiles.loc[device & (profiles["batch_size"] == batch), "latency_ms_p50"] = latency
    for batch, expected in ((16, 4.0 - 0.8 * 15 / 31), (128, 3.2 * 2.0)):
        found = figures(profiles, models, "cuda_b", batch_size=batch).set_index("model_id").loc["f0_0"]
        assert found["basis"] == "interpolated"
        # Nor is it done faster than any call ever was.
        rate = (profiles["macs"] * profiles["batch_size"] / profiles["latency_ms_p50"])[profiles["device"] == "cuda_b"]
        assert found["latency_ms"] == pytest.approx(max(expected, macs * batch / rate.max()))
        assert found["latency_ms_safe"] >= (4.0 * 3.2 if batch == 128 else 3.2) * 0.99


def test_an_interpolated_time_is_not_below_what_operations_take():
    profiles, models = fabricate()
    model, here = profiles["model_id"] == "f0_0", profiles["device"] == "cuda_b"
    # 32 images came at the best rate that was ever measured.
    profiles.loc[model, "macs"] = 1e12
    profiles.loc[model & here, "latency_ms_p50"] = 1.0
    found = figures(profiles, models, "cuda_b", batch_size=128).set_index("model_id").loc["f0_0"]
    assert found["latency_ms"] == pytest.approx(128e12 / 32e12)
    assert found["latency_ms"] > 2.0


def test_operations_that_only_the_manifest_tells_are_used():
    profiles, models = fabricate()
    twins = pd.DataFrame({"model_id": ["light", "heavy"], "family": "f9", "n_parameters": 1e7, "macs": [5e8, 5e9]})
    models["macs"] = np.nan
    found = figures(profiles, pd.concat([models, twins], ignore_index=True), "cpu_a").set_index("model_id")
    assert found["basis"][["light", "heavy"]].eq("predicted").all()
    assert found["macs"]["heavy"] == 5e9
    assert found["latency_ms"]["heavy"] > 5 * found["latency_ms"]["light"]
    # Those of a profile were counted with the network: they come first.
    assert found["macs"]["f0_0"] == profiles.loc[profiles["model_id"] == "f0_0", "macs"].iloc[0]


def test_the_best_rate_is_of_calls_of_the_same_precision_where_enough_were_measured():
    """Of few calls the best says little: then it is that of any device of the kind."""
    one = {"device": "cuda_a", "precision": "fp32", "macs": 1e9, "batch_size": 2, "latency_ms_p50": 4.0}
    faster = {**one, "precision": "fp16", "latency_ms_p50": 1.0}
    other = {**one, "device": "cuda_b", "latency_ms_p50": 2.0}
    processor = {**one, "device": "cpu_c", "latency_ms_p50": 0.1}
    for count, best in ((ENOUGH, 0.5e9), (ENOUGH - 1, 2e9)):
        profiles = pd.DataFrame([*[one] * count, *[faster] * ENOUGH, other, processor])
        assert _best_rate(profiles, "cuda_a", "fp32", None) == pytest.approx(best)
