"""Speed of devices that others measured: a fitted model of each, learned from timm's published inference benchmarks.

The logarithm of the time for one image is a ridge regression on the logarithms of what can be counted without a clock
and their products. Only the fitted numbers are part of the project (``device_models.json``); the command
``benchmarks/hub_hardware.py --fit`` makes them anew from the tables.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

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

    def predict(self, counts: Floats) -> tuple[Floats, Floats]:
        """Log milliseconds of one image, and the margin to both sides.

        Args:
            counts: (M, F) of :data:`FEATURES`, NaN where unknown.

        Returns:
            (M,) NaN where a count is unknown, and (M,) margins, wider outside the measured range.
        """
        logs = np.log(np.maximum(counts, 1e-6))
        value = self.intercept + terms(logs, np.array(self.mean), np.array(self.scale)) @ np.array(self.weights)
        # No model does more operations in a millisecond than the best that was ever measured.
        value = np.maximum(value, logs[:, 0] - np.log(self.macs_per_ms))
        return value, self.margin * (1 + outside(logs, np.array(self.low), np.array(self.high)))


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
    names = device, _chip(device)
    published = (model for model in device_models() if model.device in names and model.precision == precision)
    return next((model for model in published if model.min_batch <= batch_size <= model.max_batch), None)


def _chip(device: str) -> str:
    """``cuda_rtx4090`` for ``cuda_nvidia-geforce-rtx-4090_sm89_torch2.11``; other words are of another chip."""
    kind, name = [*device.split("_"), ""][:2]
    brand = {"nvidia", "geforce", "blackwell", "workstation", "edition"}
    return f"{kind}_{''.join(word for word in name.split('-') if word not in brand)}" if kind == "cuda" else device
