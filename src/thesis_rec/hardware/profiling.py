"""Measured cost of models on the present device: latency, throughput, memory, and counts that need no clock.

What is timed is one forward pass of a batch to pooled features, the part of a model that stays whatever classifier is
put on top. Every call is timed by itself (CUDA events on a GPU, the performance counter elsewhere) after a warm-up,
until the interval of the median is tight or the time is up.

A whole zoo has one outcome per model and device, which holds what was measured.
"""

import logging
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode

from thesis_rec.base.errors import ItemError, explained
from thesis_rec.base.files import sha256_json
from thesis_rec.base.resuming import Outcome, Stored, work_on
from thesis_rec.hardware.contexts import COLUMNS, MIB
from thesis_rec.hardware.fingerprint import device_id
from thesis_rec.hardware.timing import ProfileSettings, measure_calls, summarise_times
from thesis_rec.models.backbone import Backbone
from thesis_rec.models.model_manifest import ManifestRow

logger = logging.getLogger(__name__)

#: Torch's types of the precisions.
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def describe_backbone(backbone: Backbone, device: str = "cpu") -> dict[str, float]:
    """What can be counted without a clock, in one pass of one image.

    Args:
        backbone: The model, on ``device``; its weights want no gradients afterwards.
        device: Torch device.

    Returns:
        ``n_parameters``, of which shared ones count once; ``macs``, multiply-accumulate operations of matrix products,
        convolutions and attention; ``activation_mb``, all intermediate results in MiB (fp32): the memory traffic that
        latency follows; ``n_operations`` on tensors, each of them a kernel launch on a GPU; and ``activations``, the
        numbers that convolutions and matrix products with weights give.
    """
    images = random_images(backbone, 1, device, "fp32")
    counter = FlopCounterMode(display=False)
    # The counter hooks itself into gradients where weights ask for them, and fails on views of weights without.
    backbone.network.requires_grad_(False)
    with torch.no_grad(), _MemoryTracker() as tracker, counter:
        backbone.features(images)
    return {
        "n_parameters": sum(weight.numel() for weight in backbone.network.parameters()),
        "macs": counter.get_total_flops() // 2,
        "activation_mb": tracker.total / MIB,
        "n_operations": tracker.operations,
        "activations": tracker.activations,
    }


def random_images(backbone: Backbone, batch_size: int, device: str, precision: str) -> Tensor:
    """Normalised images of noise, the same at each call.

    Args:
        backbone: Decides height and width.
        batch_size: Number of images, B.
        device: Torch device.
        precision: One of :data:`PRECISIONS`.

    Returns:
        (B, 3, H, W).
    """
    shape = (batch_size, 3, backbone.input_size, backbone.input_size)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).to(device=device, dtype=PRECISIONS[precision])


def peak_activations(backbone: Backbone, images: Tensor) -> float:
    """Peak of intermediate results in MiB, by following every tensor of one pass."""
    with _MemoryTracker() as tracker:
        backbone.features(images)
    return float(tracker.peak / MIB)


class _MemoryTracker(TorchDispatchMode):
    """Counts operations, bytes of new storage (in ``total``, and their ``peak`` at one time), and what layers give."""

    total = peak = alive = operations = activations = 0

    def __init__(self) -> None:
        super().__init__()
        self.known = weakref.WeakSet[torch.UntypedStorage]()

    def released(self, size: int) -> None:
        self.alive -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func._schema.name in ("aten::convolution", "aten::addmm", "aten::mm"):
            self.activations += result.numel()
        given = {t.untyped_storage()._cdata for t in tree_iter((args, kwargs)) if isinstance(t, Tensor)}
        there = {t.untyped_storage() for t in tree_iter(result) if isinstance(t, Tensor)}
        # Views and in-place operations share their input's storage: no new memory, often no kernel.
        new = [one for one in there if one.nbytes() and one._cdata not in given and one not in self.known]
        for storage in new:
            self.known.add(storage)
            weakref.finalize(storage, self.released, storage.nbytes())
            self.total += storage.nbytes()
            self.alive += storage.nbytes()
        self.peak = max(self.peak, self.alive)
        self.operations += bool(new)
        return result


def profile_backbone(
    backbone: Backbone, device: str, settings: ProfileSettings, description: Mapping[str, float] | None = None
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
                    cell = {"precision": precision, "batch_size": batch_size, "peak_memory_mb": memory}
                    rows.append(summarise_times(times, batch_size) | cell)
    if not rows:
        raise ItemError(model_id, f"nothing could be profiled: {errors[0]}", "Choose other precisions or batch sizes.")
    told: dict[str, Any] = {"model_id": model_id, "device": device_id(device), "source": "measured", **description}
    return pd.DataFrame(rows).assign(threads=torch.get_num_threads() if device == "cpu" else 0, **told)[COLUMNS]


@contextmanager
def cast_weights(network: nn.Module, precision: str) -> Iterator[None]:
    """Weights in ``precision`` within the block, the very same fp32 weights after it."""
    if precision == "fp32":
        yield
        return
    # bf16 keeps eight bits of a weight, so the way back needs a copy.
    kept = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    try:
        network.to(PRECISIONS[precision])
        yield
    finally:
        network.float()
        with torch.no_grad():
            network.load_state_dict(kept)


def _held(backbone: Backbone, images: Tensor) -> float:
    """MiB of weights and images, which are there before a call."""
    held = [*backbone.network.parameters(), *backbone.network.buffers(), images]
    return sum(tensor.numel() * tensor.element_size() for tensor in held) / MIB


def made_from(row: ManifestRow, settings: ProfileSettings) -> str:
    """Hash that changes when a model would have to be measured again: another network, or other calls."""
    network = row.model_dump(include={"loader", "source", "revision"})
    return sha256_json([network, settings.model_dump(include=set(ProfileSettings.model_fields))])


def profile_zoo(
    rows: Sequence[ManifestRow],
    load: Callable[[ManifestRow], Backbone],
    existing: Mapping[str, Stored],
    device: str,
    settings: ProfileSettings,
) -> Iterator[dict[str, Outcome]]:
    """Measure models one after another, resumably (:mod:`thesis_rec.base.resuming`).

    Args:
        rows: The models.
        load: Builds a model.
        existing: Outcomes of earlier runs.
        device: As of :func:`~thesis_rec.hardware.profiling.profile_backbone`.
        settings: Precisions, batch sizes and how long to measure.

    Yields:
        Outcomes by ``<model id>/<device id>``. An outcome has ``rows``, those of ``hardware_profiles``.
    """

    def make(row: ManifestRow, outcome: Outcome) -> list[dict[str, Outcome]]:
        outcome["rows"] = profile_backbone(load(row), device, settings).to_dict("records")
        return []  # the outcome has all of it

    items = {f"{row.model_id}/{device_id(device)}": row for row in rows}
    for _, outcomes in work_on(items, "profiling", partial(made_from, settings=settings), make, existing):
        yield outcomes
