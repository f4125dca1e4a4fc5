"""Speed of devices that others measured: a fitted model of each, learned from timm's published inference benchmarks.

The logarithm of the time for one image is a ridge regression on the logarithms of what can be counted without a clock
and their products. Only the fitted numbers are part of the project (``device_models.json``); the command
``benchmarks/hub_hardware.py --fit`` makes them anew from the tables.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from thesis_rec.base.tables import Floats

#: A processor's time per image at larger batches than were published is the same within this factor: on a Xeon, of 119
#: models an image in eight took 0.61 to 1.11 of one alone in nine of ten cases.
LARGER_BATCH_FACTOR = 1.6

FILE = Path(__file__).with_name("device_models.json")

#: Counts that the regression is on, as columns of hardware profiles.
FEATURES = ("macs", "activation_mb", "n_parameters", "n_operations")


@dataclass(frozen=True)
class DeviceModel:
    """The time of one image on a device, at the precision and batch sizes that it was measured at.

    Attributes:
        device: Identifier, such as ``cuda_rtx4090``.
        precision: ``fp32`` or ``fp16``.
        min_batch: Smallest batch that the time per image holds for: at smaller ones a GPU waits for launches.
        max_batch: Largest batch that it holds for.
        source: File of the published table.
        mean: (F,) of the log counts.
        scale: (F,) of the log counts.
        low: (F,) smallest log counts that were measured.
        high: (F,) largest log counts that were measured.
        weights: (F + F (F + 1) / 2,) of the standardised log counts and their products.
        intercept: Mean log milliseconds.
        margin: What 95 % of held-out families' models keep, as a logarithm.
        macs_per_ms: Most multiply-accumulates that any model reached in a millisecond.
    """

    device: str
    precision: str
    min_batch: int
    max_batch: int
    source: str
    mean: list[float]
    scale: list[float]
    low: list[float]
    high: list[float]
    weights: list[float]
    intercept: float
    margin: float
    macs_per_ms: float

    def holds_for(self, batch_size: int) -> bool:
        """Whether it tells the time of a call of so many images: a processor, unlike a GPU, is busy with few."""
        return self.min_batch <= batch_size and (batch_size <= self.max_batch or self.device.startswith("cpu_"))

    def predict(self, counts: Floats, batch_size: int) -> tuple[Floats, Floats]:
        """Log milliseconds of one call, and the margin to both sides.

        Args:
            counts: (M, F) of :data:`FEATURES`, NaN where unknown.
            batch_size: Images in the call, for which it :meth:`holds_for`.

        Returns:
            (M,) NaN where a count is unknown, and (M,) margins, wider outside the measured range.
        """
        logs = np.log(np.maximum(counts, 1e-6))
        value = self.intercept + terms(logs, np.array(self.mean), np.array(self.scale)) @ np.array(self.weights)
        # No model does more operations in a millisecond than the best that was ever measured.
        value = np.maximum(value, logs[:, 0] - np.log(self.macs_per_ms)) + np.log(batch_size)
        margin = self.margin * (1 + outside(logs, np.array(self.low), np.array(self.high)))
        return value, np.hypot(margin, np.log(LARGER_BATCH_FACTOR)) if batch_size > self.max_batch else margin


def outside(logs: Floats, low: Floats, high: Floats) -> Floats:
    """How far (M, F) logarithms lie beyond a measured range in the worst of their features: (M,), 0 within it."""
    return np.maximum(np.maximum(low - logs, logs - high), 0.0).max(axis=1, initial=0.0)


def terms(logs: Floats, mean: Floats, scale: Floats) -> Floats:
    """(M, F + F (F + 1) / 2) standardised logarithms and their products."""
    z = (logs - mean) / scale
    rows, columns = np.triu_indices(z.shape[1])
    return np.column_stack([z, z[:, rows] * z[:, columns]])


@cache
def device_models() -> tuple[DeviceModel, ...]:
    """The models that are part of the project."""
    return tuple(DeviceModel(**entry) for entry in json.loads(FILE.read_text(encoding="utf-8")))


def device_model(device: str, precision: str, batch_size: int) -> DeviceModel | None:
    """The model of a device for a call, or None where none was published for its precision and batch size.

    Args:
        device: Identifier of one of the models, or of a present GPU, as
            :func:`~thesis_rec.hardware.fingerprint.device_id` has it, of the same name.
        precision: Precision of the call.
        batch_size: Images in the call.
    """
    published = (model for model in published_of(device) if model.precision == precision)
    return next((model for model in published if model.holds_for(batch_size)), None)


def published_of(device: str) -> list[DeviceModel]:
    """The models of a device, named as for :func:`device_model`."""
    return [model for model in device_models() if model.device in (device, _chip(device))]


def _chip(device: str) -> str:
    """``cuda_rtx4090`` for ``cuda_nvidia-geforce-rtx-4090_sm89_torch2.11``; other words are of another chip."""
    kind, name = [*device.split("_"), ""][:2]
    brand = {"nvidia", "geforce", "blackwell", "workstation", "edition"}
    return f"{kind}_{''.join(word for word in name.split('-') if word not in brand)}" if kind == "cuda" else device
