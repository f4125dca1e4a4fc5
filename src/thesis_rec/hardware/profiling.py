"""Measured cost of a model on the present device: latency, throughput, memory, and counts that need no clock.

What is timed is one forward pass of a batch to pooled features, the part of a model that stays whatever classifier is
put on top. Every call is timed by itself (CUDA events on a GPU, the performance counter elsewhere) after a warm-up,
until the interval of the median is tight or the time is up.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from thesis_rec.base.errors import ItemError, explained
from thesis_rec.hardware.counts import MIB, PRECISIONS, Description, describe_backbone, peak_activations, random_images
from thesis_rec.hardware.fingerprint import device_id
from thesis_rec.hardware.timing import ProfileSettings, measure_calls, summarise_times

if TYPE_CHECKING:
    from torch import Tensor, nn

    from thesis_rec.models.backbone import Backbone

logger = logging.getLogger(__name__)

#: Columns of ``hardware_profiles``, in order; the first row is the contract, the second says how sure it is.
COLUMNS = [
    "model_id", "device", "precision", "batch_size", "latency_ms_p50", "latency_ms_p95", "throughput",
    "peak_memory_mb", "n_parameters", "macs", "source",
    "latency_ms_p50_low", "latency_ms_p50_high", "repeats", "threads", "activation_mb", "n_operations",
]  # fmt: skip


def profile_backbone(
    backbone: Backbone, device: str, settings: ProfileSettings, description: Description | None = None
) -> pd.DataFrame:
    """Measure one model at every precision and batch size.

    Args:
        backbone: The model; moved to ``device``, its weights unchanged afterwards.
        device: Torch device, such as ``cpu`` or ``cuda``.
        settings: Precisions, batch sizes and how long to measure.
        description: Its counts, where they were made before; None makes them here.

    Returns:
        One row per cell that ran, with the columns ``COLUMNS``. Latencies are milliseconds per call, throughput is
        images per second, memory is weights, images and the peak of one call's results in MiB, without workspaces
        that libraries keep.

    Raises:
        ItemError: If no cell ran.
    """
    import torch

    model_id, network = backbone.model_id, backbone.network.to(device).eval()
    rows: list[dict[str, Any]] = []
    errors: list[str] = []
    with torch.inference_mode():
        with explained(model_id, "a forward pass failed: {reason}", "Check the model's input size."):
            description = description or describe_backbone(backbone, device)
        for precision in settings.precisions:
            with cast_weights(network, precision):
                for batch_size in settings.batch_sizes:
                    images = random_images(backbone, batch_size, device, precision)
                    try:
                        times, memory = measure_calls(partial(backbone.features, images), device, settings)
                    except RuntimeError as error:  # also torch's out-of-memory error
                        errors.append(f"{precision}, batch {batch_size}: {error}")
                        logger.warning("%s can't be profiled at %s", model_id, errors[-1])
                        continue
                    held = _held(backbone, images)
                    memory = held + (peak_activations(backbone, images) if memory is None else memory)
                    row: dict[str, Any] = {
                        **summarise_times(times, batch_size),
                        "model_id": model_id,
                        "device": device_id(device),
                        "precision": precision,
                        "batch_size": batch_size,
                        "peak_memory_mb": memory,
                        **vars(description),
                        "threads": torch.get_num_threads() if device == "cpu" else 0,
                        "source": "measured",
                    }
                    rows.append(row)
    if not rows:
        raise ItemError(model_id, f"nothing could be profiled: {errors[0]}", "Choose other precisions or batch sizes.")
    return pd.DataFrame(rows)[COLUMNS]


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


def _held(backbone: Backbone, images: Tensor) -> float:
    """MiB of weights and images, which are there before a call."""
    held = [*backbone.network.parameters(), *backbone.network.buffers(), images]
    return sum(tensor.numel() * tensor.element_size() for tensor in held) / MIB
