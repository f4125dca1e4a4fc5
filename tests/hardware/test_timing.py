"""When measuring stops, and what times say."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from thesis_rec.hardware import timing
from thesis_rec.hardware.timing import ProfileSettings, measure_calls, median_interval, summarise_times


def test_measuring_stops_when_the_median_is_tight_or_time_is_up(monkeypatch):
    clock = iter(np.tile([1.0, 1.001], 500))
    monkeypatch.setattr(timing, "_host_clock", lambda call: next(clock))
    tight = ProfileSettings(warmup=2, min_repeats=5, max_repeats=100, tolerance=0.01, max_seconds=60)
    assert len(measure_calls(lambda: None, "cpu", tight)[0]) == 5
    noisy = iter(np.tile([1.0, 9.0], 500))
    monkeypatch.setattr(timing, "_host_clock", lambda call: next(noisy))
    assert len(measure_calls(lambda: None, "cpu", tight)[0]) == 100
    slow = iter([100.0] * 50)
    monkeypatch.setattr(timing, "_host_clock", lambda call: next(slow))
    assert len(measure_calls(lambda: None, "cpu", ProfileSettings(warmup=9, max_seconds=1e-9))[0]) == 3
    assert len(list(slow)) == 46  # one warm-up call, three counted


def test_the_clock_and_the_memory_are_those_of_the_gpu_that_is_asked_for(monkeypatch):
    present, asked = ["cuda:0"], []

    @contextmanager
    def device(name):
        before, present[0] = present[0], name
        yield
        present[0] = before

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            asked.append(present[0])

        def synchronize(self):
            asked.append(present[0])

        def elapsed_time(self, end):
            return 2.0

    def memory(mebibytes):
        return lambda: asked.append(present[0]) or mebibytes * 2**20

    fakes = {"device": device, "Event": Event, "memory_allocated": memory(3), "max_memory_allocated": memory(10)}
    for name, fake in (fakes | dict.fromkeys(("synchronize", "reset_peak_memory_stats"), memory(0))).items():
        monkeypatch.setattr(torch.cuda, name, fake)
    times, peak = measure_calls(lambda: asked.append(present[0]), "cuda:1", ProfileSettings(warmup=1, min_repeats=3))
    assert (times.tolist(), peak) == ([2.0] * 3, 7.0)
    assert set(asked) == {"cuda:1"}
    assert present == ["cuda:0"]


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
