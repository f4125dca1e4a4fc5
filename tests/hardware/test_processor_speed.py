from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from thesis_rec.hardware.fingerprint import FACTOR, MEASURED_RATES, POWER, processor_rate
from thesis_rec.hardware.prediction import UNKNOWN_CONTEXT_FACTOR, figures

MEASURED = next(iter(MEASURED_RATES))


def profiled(device: str = MEASURED) -> pd.DataFrame:
    """Twelve models far from the best rate of operations, which the first one reaches."""
    count = 12
    latency = np.linspace(10.0, 120.0, count)
    macs = np.where(np.arange(count) == 0, 1e9, 1e6 * latency)
    return pd.DataFrame(
        {
            "model_id": [f"m{k}" for k in range(count)], "device": device, "precision": "fp32", "batch_size": 1,
            "latency_ms_p50": latency, "latency_ms_p50_high": latency, "peak_memory_mb": 50.0,
            "n_parameters": 1e6, "macs": macs, "activation_mb": 1.0, "n_operations": 50.0,
        }
    )  # fmt: skip


def asked(profiles: pd.DataFrame, rate: float | None) -> pd.DataFrame:
    models = pd.DataFrame({"model_id": profiles["model_id"].unique(), "family": "f"})
    return figures(profiles, models, "cpu_mine_8c8t_torch2.11", rate=rate)


def test_each_thread_counts_and_asked_again_the_rate_is_the_same():
    one, eight = (processor_rate(f"cpu_mine_8c{threads}t_torch2.11") for threads in (1, 8))
    assert 0.1 < one < 1e4
    assert eight == pytest.approx(8 * one, rel=0.06)
    assert processor_rate("cpu_mine_8c8t_torch2.11") == eight


@pytest.mark.parametrize("faster", [0.25, 1.0, 10.0])
def test_a_processor_that_nobody_measured_is_as_fast_as_its_rate_tells(faster):
    profiles = profiled()
    found = asked(profiles, faster * MEASURED_RATES[MEASURED]).iloc[1:]
    profiles = profiles.iloc[1:]
    np.testing.assert_allclose(found["latency_ms"], profiles["latency_ms_p50"] * faster**-POWER)
    np.testing.assert_allclose(found["latency_ms_safe"], FACTOR * found["latency_ms"])
    np.testing.assert_allclose(found["latency_ms_low"], found["latency_ms"] / FACTOR)
    assert FACTOR < UNKNOWN_CONTEXT_FACTOR
    # Memory doesn't depend on speed.
    np.testing.assert_allclose(found["memory_mb"], 50.0)


def test_without_a_rate_or_where_the_measured_one_s_is_unknown_nothing_is_brought_to_it():
    profiles = profiled()
    for found in (asked(profiles, None), asked(profiled("cpu_other_2c2t_torch2.11"), 1000.0)):
        np.testing.assert_allclose(found["latency_ms"], profiles["latency_ms_p50"])
        np.testing.assert_allclose(found["latency_ms_safe"], UNKNOWN_CONTEXT_FACTOR * found["latency_ms"])


def test_what_was_measured_on_the_processor_itself_counts_more_than_its_rate():
    profiles, rate = profiled(), 4 * MEASURED_RATES[MEASURED]
    here = profiles.head(3).assign(device="cpu_mine_8c8t_torch2.11", latency_ms_p50=lambda t: 0.5 * t["latency_ms_p50"])
    found = asked(pd.concat([profiles, here]), rate)
    np.testing.assert_allclose(found["latency_ms"], 0.5 * profiles["latency_ms_p50"])
    assert found["latency_ms_safe"].iloc[-1] == pytest.approx(FACTOR**0.5 * found["latency_ms"].iloc[-1])


@pytest.mark.parametrize(("faster", "floored"), [(2.0, False), (0.1, True)])
def test_the_best_rate_of_operations_is_brought_to_the_rate_as_well(faster, floored):
    # The first model's operations come at the measured processor's best rate: 1e8 in a millisecond.
    first = asked(profiled(), faster * MEASURED_RATES[MEASURED]).iloc[0]
    assert first["latency_ms"] >= 1e9 / (1e8 * faster) * (1 - 1e-9)
    assert (first["latency_ms"] > 10.0 * faster**-POWER * (1 + 1e-9)) == floored
