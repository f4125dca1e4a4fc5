"""Times of a call, measured until the interval of their median is tight."""

import math
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from thesis_rec.base.settings import Settings, Words
from thesis_rec.hardware.contexts import MIB

#: Milliseconds of one call.
Clock = Callable[[Callable[[], Any]], float]


class ProfileSettings(Settings):
    """Which calls of a model are measured, and how long each is.

    Attributes:
        precisions: Precisions of the calls.
        batch_sizes: Numbers of images in a call.
        warmup: Calls that aren't counted: they allocate memory and choose kernels.
        min_repeats: Calls that are counted at least.
        max_repeats: Calls that are counted at most.
        tolerance: Measuring stops when the median's 95 % interval reaches no further than this share of the median.
        max_seconds: Time limit of a call, warm-up included. ``min_repeats`` are done beyond it, unless even one call
            takes longer than the limit: then three have to do.
    """

    precisions: Words[Literal["fp32", "fp16", "bf16"]] = ("fp32",)
    batch_sizes: Words[int] = (1, 32)
    warmup: int = Field(default=3, ge=0)
    min_repeats: int = Field(default=7, ge=1)
    max_repeats: int = Field(default=200, ge=1)
    tolerance: float = Field(default=0.02, gt=0.0)
    max_seconds: float = Field(default=0.15, gt=0.0)


def measure_calls(
    call: Callable[[], Any], device: str, settings: ProfileSettings
) -> tuple[NDArray[np.float64], float | None]:
    """Time a call again and again.

    Args:
        call: What is timed.
        device: Torch device that it runs on.
        settings: When to stop.

    Returns:
        (n,) milliseconds of each counted call, and on a GPU the MiB that a call allocates at most beyond what was
        there before (weights, its images, other people's tensors), else None.
    """
    if not device.startswith("cuda"):
        return _times(call, _host_clock, settings), None
    import torch

    # Events, the memory's peak and waiting are those of the present device, which is the first unless it is said.
    with torch.cuda.device(device):
        times = _times(call, _cuda_clock, settings)
        # In a call behind them, so that a library's workspace, allocated once, isn't charged to the first model.
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return times, (torch.cuda.max_memory_allocated() - before) / MIB


def _times(call: Callable[[], Any], clock: Clock, settings: ProfileSettings) -> NDArray[np.float64]:
    """(n,) milliseconds of each counted call, until they suffice or the time is up; the first ones aren't counted."""
    started = time.perf_counter()
    for done in range(settings.warmup):
        if done and time.perf_counter() - started > settings.max_seconds:
            break
        clock(call)
    times: list[float] = []
    while len(times) < settings.max_repeats:
        times.append(clock(call))
        slow, late = (seconds > settings.max_seconds for seconds in (times[-1] / 1000, time.perf_counter() - started))
        low, high = median_interval(np.asarray(times))
        tight = high - low <= 2 * settings.tolerance * float(np.median(times))
        if len(times) >= (min(3, settings.min_repeats) if slow else settings.min_repeats) and (late or tight):
            break
    return np.asarray(times)


def summarise_times(times: NDArray[np.float64], batch_size: int) -> dict[str, float | int]:
    """Median with its interval, 95th percentile and throughput of (n,) times in milliseconds."""
    low, high = median_interval(times)
    return {
        "latency_ms_p50": float(np.median(times)),
        "latency_ms_p95": float(np.quantile(times, 0.95)),
        "latency_ms_p50_low": low,
        "latency_ms_p50_high": high,
        "throughput": 1000.0 * batch_size * len(times) / float(times.sum()),
        "repeats": len(times),
    }


def median_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the median that holds for any distribution, from order statistics.

    The number of values below the median is binomial(n, 1/2), so the ranks ``n/2 -+ 1.96 sqrt(n)/2`` enclose it with
    about 95 % (Conover, Practical Nonparametric Statistics, section 3.2).

    Args:
        values: (n,) measurements.
    """
    ordered = np.sort(values)
    n = len(ordered)
    half = 1.96 * math.sqrt(n) / 2
    low = max(math.floor(n / 2 - half), 0)
    high = min(math.ceil(n / 2 + half), n - 1)
    return float(ordered[low]), float(ordered[high])


def _host_clock(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


def _cuda_clock(call: Callable[[], Any]) -> float:
    import torch

    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))
