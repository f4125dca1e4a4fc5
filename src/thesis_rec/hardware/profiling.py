"""Measured cost of a model on the present device: latency, throughput, memory, and counts that need no clock.

What is timed is one forward pass of a batch to pooled features, the part of a model that stays whatever classifier is
put on top. Every call is timed by itself (CUDA events on a GPU, the performance counter elsewhere) after a warm-up,
until the interval of the median is tight or the time is up.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.errors import ItemError
from thesis_rec.hardware.fingerprint import device_fingerprint

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from thesis_rec.zoo.backbone import Backbone

logger = logging.getLogger(__name__)

PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}

#: Columns of ``hardware_profiles``, in order; the first row is the contract, the second says how sure it is.
COLUMNS = [
    "model_id", "device", "precision", "batch_size", "latency_ms_p50", "latency_ms_p95", "throughput",
    "peak_memory_mb", "n_parameters", "macs", "source",
    "latency_ms_p50_low", "latency_ms_p50_high", "repeats", "threads", "activation_mb", "n_operations",
]  # fmt: skip

MIB = float(1 << 20)


@dataclass(frozen=True)
class ProfileSettings:
    """How long a cell (model, precision, batch size) is measured.

    Attributes:
        warmup: Calls that aren't counted: they allocate memory and choose kernels.
        min_repeats: Calls that are counted at least.
        max_repeats: Calls that are counted at most.
        tolerance: Measuring stops when the median's 95 % interval reaches no further than this share of the median.
        max_seconds: Time limit of a cell, warm-up included. ``min_repeats`` are done beyond it, unless even one call
            takes longer than the limit: then three have to do.
    """

    warmup: int = 3
    min_repeats: int = 7
    max_repeats: int = 200
    tolerance: float = 0.02
    max_seconds: float = 0.15


@dataclass(frozen=True)
class Description:
    """What can be counted without a clock, for one image.

    Attributes:
        n_parameters: Number of weights; shared ones count once.
        macs: Multiply-accumulate operations of matrix products, convolutions and attention.
        activation_mb: All intermediate results of the pass in MiB (fp32): the memory traffic that latency follows.
        peak_activation_mb: Most MiB of intermediate results alive at one time.
        n_operations: Number of tensor operations, each of them a kernel launch on a GPU.
        weight_mb: Parameters and buffers in MiB.
    """

    n_parameters: int
    macs: int
    activation_mb: float
    peak_activation_mb: float
    n_operations: int
    weight_mb: float


def profile_backbone(
    backbone: Backbone,
    model_id: str,
    device: str = "cpu",
    precisions: Sequence[str] = ("fp32",),
    batch_sizes: Sequence[int] = (1, 32),
    *,
    settings: ProfileSettings | None = None,
) -> pd.DataFrame:
    """Measure one model at every precision and batch size.

    Args:
        backbone: The model; moved to ``device``, its weights unchanged afterwards.
        model_id: Identifier for the rows.
        device: Torch device, such as ``cpu`` or ``cuda``.
        precisions: Some of ``fp32``, ``fp16`` and ``bf16``.
        batch_sizes: Numbers of images in a call.
        settings: How long to measure.

    Returns:
        One row per cell that ran, with the columns ``COLUMNS``. Latencies are milliseconds per call, throughput is
        images per second, memory is weights, images and the peak of one call's results in MiB, without workspaces
        that libraries keep.

    Raises:
        ItemError: If a precision is unknown, or no cell ran.
    """
    import torch

    if unknown := [p for p in precisions if p not in PRECISIONS]:
        raise ItemError(model_id, f"unknown precision {unknown[0]!r}.", f"Choose from {', '.join(PRECISIONS)}.")
    settings = settings or ProfileSettings()
    fingerprint = device_fingerprint(device)
    network = backbone.network.to(device).eval()
    rows: list[dict[str, Any]] = []
    errors: list[str] = []
    with torch.inference_mode():
        try:
            description = describe_backbone(backbone, device)
        except RuntimeError as error:
            raise ItemError(model_id, f"a forward pass failed: {error}", "Check the model's input size.") from error
        for precision in precisions:
            with cast_weights(network, precision):
                for batch_size in batch_sizes:
                    images = _images(backbone, batch_size, device, precision)
                    try:
                        times, memory = measure_calls(partial(backbone.features, images), device, settings)
                    except RuntimeError as error:  # also torch's out-of-memory error
                        errors.append(f"{precision}, batch {batch_size}: {error}")
                        continue
                    held = _held(backbone, images)
                    memory = held + (_peak_activations(backbone, images) if memory is None else memory)
                    row: dict[str, Any] = {
                        **summarise_times(times, batch_size),
                        "model_id": model_id,
                        "device": fingerprint.device_id,
                        "precision": precision,
                        "batch_size": batch_size,
                        "peak_memory_mb": memory,
                        "n_parameters": description.n_parameters,
                        "macs": description.macs,
                        "activation_mb": description.activation_mb,
                        "n_operations": description.n_operations,
                        "threads": fingerprint.threads,
                        "source": "measured",
                    }
                    rows.append(row)
    for message in errors:
        logger.warning("%s can't be profiled at %s", model_id, message)
    if not rows:
        raise ItemError(model_id, f"nothing could be profiled: {errors[0]}", "Choose other precisions or batch sizes.")
    return pd.DataFrame(rows)[COLUMNS]


def describe_backbone(backbone: Backbone, device: str = "cpu") -> Description:
    """Count parameters, multiply-accumulates, activations and operations in one pass of one image.

    Args:
        backbone: The model, on ``device``.
        device: Torch device.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode():
        images = _images(backbone, 1, device, "fp32")
        counter = FlopCounterMode(display=False)
        with _memory_tracker() as tracker, counter:
            backbone.features(images)
    weights = list(backbone.network.parameters())
    buffers = list(backbone.network.buffers())
    return Description(
        n_parameters=sum(p.numel() for p in weights),
        macs=counter.get_total_flops() // 2,
        activation_mb=tracker.total / MIB,
        peak_activation_mb=tracker.peak / MIB,
        n_operations=tracker.operations,
        weight_mb=sum(t.numel() * t.element_size() for t in [*weights, *buffers]) / MIB,
    )


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
    clock = _cuda_clock if device.startswith("cuda") else _host_clock
    started = time.perf_counter()
    for done in range(settings.warmup):
        if done and time.perf_counter() - started > settings.max_seconds:
            break
        clock(call)
    if device.startswith("cuda"):
        import torch

        # After the warm-up, so that a library's workspace, allocated once, isn't charged to the first model.
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    times: list[float] = []
    while len(times) < settings.max_repeats:
        times.append(clock(call))
        slow = times[-1] > 1000 * settings.max_seconds
        if len(times) < (min(3, settings.min_repeats) if slow else settings.min_repeats):
            continue
        if time.perf_counter() - started > settings.max_seconds:
            break
        low, high = median_interval(np.asarray(times))
        if high - low <= 2 * settings.tolerance * float(np.median(times)):
            break
    memory = None
    if device.startswith("cuda"):
        memory = (torch.cuda.max_memory_allocated() - before) / MIB
    return np.asarray(times), memory


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


def median_interval(values: NDArray[np.float64], z: float = 1.96) -> tuple[float, float]:
    """Interval of the median that holds for any distribution, from order statistics.

    The number of values below the median is binomial(n, 1/2), so the ranks ``n/2 -+ z sqrt(n)/2`` enclose it with
    about 95 % (Conover, Practical Nonparametric Statistics, section 3.2).

    Args:
        values: (n,) measurements.
        z: Quantile of the normal distribution.
    """
    ordered = np.sort(values)
    n = len(ordered)
    half = z * math.sqrt(n) / 2
    low = max(math.floor(n / 2 - half), 0)
    high = min(math.ceil(n / 2 + half), n - 1)
    return float(ordered[low]), float(ordered[high])


@contextmanager
def cast_weights(network: nn.Module, precision: str) -> Iterator[None]:
    """Weights in ``precision`` within the block, the very same fp32 weights after it."""
    import torch

    if precision == "fp32":
        yield
        return
    # bf16 keeps eight bits of a weight, so the way back needs a copy.
    kept = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    try:
        network.to(getattr(torch, PRECISIONS[precision]))
        yield
    finally:
        network.float()
        with torch.no_grad():
            network.load_state_dict(kept)


def _images(backbone: Backbone, batch_size: int, device: str, precision: str) -> Tensor:
    import torch

    shape = (batch_size, 3, backbone.input_size, backbone.input_size)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).to(device=device, dtype=getattr(torch, PRECISIONS[precision]))


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


def _held(backbone: Backbone, images: Tensor) -> float:
    """MiB of weights and images, which are there before a call."""
    held = [*backbone.network.parameters(), *backbone.network.buffers(), images]
    return sum(tensor.numel() * tensor.element_size() for tensor in held) / MIB


def _peak_activations(backbone: Backbone, images: Tensor) -> float:
    """Peak of intermediate results in MiB, by following every tensor of one pass."""
    with _memory_tracker() as tracker:
        backbone.features(images)
    return tracker.peak / MIB


class _Tracker:
    """Bytes of new storage that operations made: ``total`` of all, ``peak`` alive at one time."""

    def __init__(self) -> None:
        self.total = self.peak = self.alive = self.operations = 0
        self.mode: AbstractContextManager[Any] = nullcontext()


@contextmanager
def _memory_tracker() -> Iterator[_Tracker]:
    import weakref

    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_iter

    tracker = _Tracker()
    known: weakref.WeakKeyDictionary[torch.UntypedStorage, int] = weakref.WeakKeyDictionary()

    def released(size: int) -> None:
        tracker.alive -= size

    class _Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            import torch

            result = func(*args, **(kwargs or {}))
            new = False
            given = {t.untyped_storage()._cdata for t in tree_iter((args, kwargs)) if isinstance(t, torch.Tensor)}
            for tensor in tree_iter(result):
                if not isinstance(tensor, torch.Tensor):
                    continue
                storage = tensor.untyped_storage()
                # Views and in-place operations share their input's storage: no new memory, often no kernel.
                size = storage.nbytes()
                if not size or storage._cdata in given or storage in known:
                    continue
                new = True
                known[storage] = size
                weakref.finalize(storage, released, size)
                tracker.total += size
                tracker.alive += size
                tracker.peak = max(tracker.peak, tracker.alive)
            tracker.operations += new
            return result

    with _Mode():
        yield tracker


def settings_dict(settings: ProfileSettings) -> dict[str, Any]:
    """The settings as a plain dictionary, for hashes and provenance."""
    return asdict(settings)
