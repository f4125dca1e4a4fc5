"""How well the cost of real models is known: what was measured, and predictions of families that were left out.

Our own measurements are those of ``data/01_raw/hub/hardware_profiles.parquet``; timm's published speeds are read from
``THESIS_REC_BENCHMARKS``, where that is set. ``--fit`` makes the models of timm's devices that the project ships.
"""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from result import PROJECT, finish, parser_of
from scipy.stats import spearmanr

from thesis_rec.base.files import write_json
from thesis_rec.hardware.device_models import FEATURES, FILE, DeviceModel, terms

Floats = NDArray[np.float64]

HUB = PROJECT / "data/01_raw/hub"

#: Ridge penalty of a device's model, relative to the number of networks.
PENALTY = 1e-3

#: Published tables: device, precision, and the batches that the time per image holds for.
TABLES = {
    "benchmark-infer-amp-nchw-pt291-cu128-4090.csv": ("cuda_rtx4090", "fp16", (64, 1024)),
    "benchmark-infer-amp-nchw-pt291-cu130-5090.csv": ("cuda_rtx5090", "fp16", (64, 1024)),
    "benchmark-infer-amp-nchw-pt291-cu130-pro6000maxq.csv": ("cuda_rtxpro6000maxq", "fp16", (64, 2048)),
    "benchmark-infer-amp-nhwc-pt240-cu124-rtx3090.csv": ("cuda_rtx3090", "fp16", (64, 1024)),
    "benchmark-infer-fp32-nchw-pt240-cpu-i7_12700h-dynamo.csv": ("cpu_i7-12700h_compiled", "fp32", (1, 1)),
    "benchmark-infer-fp32-nchw-pt240-cpu-i9_10940x-dynamo.csv": ("cpu_i9-10940x_compiled", "fp32", (1, 1)),
}

#: Contexts of our own measurements that are judged: kind of device, precision and batch size.
CONTEXTS = [("cpu", "fp32", 1), ("cuda", "fp32", 1), ("cuda", "fp16", 1), ("cuda", "fp16", 32), ("cuda", "bf16", 32)]


def main() -> None:
    """Measure, print, and on request save or fit."""
    parser = parser_of(__doc__)
    parser.add_argument("--fit", action="store_true", help="write the shipped models of timm's devices")
    arguments = parser.parse_args()
    manifest = pd.read_csv(HUB / "model_manifest.csv")
    profiles = pd.read_parquet(HUB / "hardware_profiles.parquet")
    rows = [_own(profiles, manifest, *context) for context in CONTEXTS]
    folder = Path(os.environ.get("THESIS_REC_BENCHMARKS", "")) / "timm"
    if os.environ.get("THESIS_REC_BENCHMARKS") and folder.is_dir():
        rows += _published(folder, arguments.fit)
    else:
        print("THESIS_REC_BENCHMARKS names no folder with timm's tables: their devices are left out.")
    result = {"benchmark": "hub_hardware", "device": "figures of other machines", "rows": rows}
    text = (
        "Cost of real models. Errors are medians over models whose family was left out; a budget is broken when the "
        "safe side of a prediction keeps a limit that the model's true latency doesn't (limits at the 5 to 95 % "
        "quantiles). `below floor` counts figures that physics forbids."
    )
    finish(result, arguments.save, "Hardware figures of real models", 61, text, rows)


def _own(profiles: pd.DataFrame, manifest: pd.DataFrame, kind: str, precision: str, batch: int) -> dict[str, object]:
    """One context of our measurements: the share of models measured, and every family predicted from the others."""
    from hardware_choices import held_out_figures

    device = next(name for name in profiles["device"].unique() if name.startswith(kind))
    here = profiles["device"] == device
    cell = profiles[here & (profiles["precision"] == precision) & (profiles["batch_size"] == batch)]
    share = manifest["model_id"].isin(cell["model_id"]).mean()
    # One model stands for all checkpoints of an architecture: their figures are the same measurement.
    cell = cell.drop_duplicates("source")
    models = manifest[manifest["model_id"].isin(cell["model_id"])][["model_id", "family"]]
    seen = profiles[profiles["model_id"].isin(models["model_id"])]
    # Ten groups of families, each left out as a whole: as hard as single families, and done in minutes.
    groups = models["family"].map({name: f"g{i % 10}" for i, name in enumerate(sorted(models["family"].unique()))})
    by_group = models.assign(family=groups)
    found = held_out_figures(seen, by_group, device, precision, batch).set_index("model_id")
    truth = cell.set_index("model_id").reindex(found.index)
    actual = truth["latency_ms_p50"].to_numpy()
    value, safe = found["latency_ms"].to_numpy(float), found["latency_ms_safe"].to_numpy(float)
    weights = truth["n_parameters"].to_numpy() * {"fp32": 4, "fp16": 2, "bf16": 2}[precision] / 2**20
    context = profiles[here & (profiles["precision"] == precision)]
    fastest = (context["macs"] * context["batch_size"] / context["latency_ms_p50"]).max()
    below = (found["memory_mb"].to_numpy(float) < 0.999 * weights) | (value < 0.999 * truth["macs"] * batch / fastest)
    return {
        "device": device,
        "precision": precision,
        "batch": batch,
        "models": len(found),
        "measured": float(share),
        **_judged(value, safe, actual),
        "below floor": int(below.sum()),
    }


def _judged(predicted: Floats, safe: Floats, actual: Floats) -> dict[str, float]:
    """How well latencies are told: their order, their errors, and limits that only the safe side keeps."""
    limits = np.quantile(actual, np.linspace(0.05, 0.95, 19))
    admitted = safe[:, None] <= limits
    return {
        "order": float(spearmanr(predicted, actual)[0]),
        "error": float(np.median(np.abs(predicted / actual - 1))),
        "broken": float((admitted & (actual[:, None] > limits)).sum() / max(admitted.sum(), 1)),
    }


def _published(folder: Path, fit: bool) -> list[dict[str, object]]:
    """timm's devices, each family predicted from the others."""
    import timm

    counts = pd.read_parquet(HUB / "architecture_counts.parquet").set_index("architecture")
    rows, models = [], []
    for name, (device, precision, batches) in TABLES.items():
        table = pd.read_csv(folder / name)
        table["key"] = "timm/" + table["model"] + "@" + table["infer_img_size"].astype(str)
        table = table[table["key"].isin(counts.index) & (table["infer_samples_per_sec"] > 0)].drop_duplicates("key")
        families = np.array([_family(timm, model) for model in table["model"]], dtype=object)
        known = counts.loc[table["key"], list(FEATURES)].to_numpy(float)
        actual = 1000 / table["infer_samples_per_sec"].to_numpy()
        model, held_out = fit_device_model(
            known, actual, families, device=device, precision=precision, batches=batches, source=f"timm:{name}"
        )
        models.append(model)
        predicted = np.exp(held_out)
        rows.append(
            {
                "device": device,
                "precision": precision,
                "batch": batches[0],
                "models": len(table),
                "measured": 0.0,
                **_judged(predicted, predicted * np.exp(model.margin), actual),
                "below floor": int((predicted < 0.999 * known[:, 0] / (known[:, 0] / actual).max()).sum()),
            }
        )
    if fit:
        write_json(FILE, [asdict(model) for model in models])
    return rows


def fit_device_model(
    counts: Floats,
    ms_per_image: Floats,
    families: NDArray[np.object_],
    *,
    device: str,
    precision: str,
    batches: tuple[int, int],
    source: str,
) -> tuple[DeviceModel, Floats]:
    """Fit a device's model, and judge it on families that it wasn't fitted on.

    Args:
        counts: (n, F) of :data:`FEATURES`.
        ms_per_image: (n,) measured milliseconds.
        families: (n,) architecture families.
        device: Identifier.
        precision: Of the measurements.
        batches: Smallest and largest batch that the figures hold for.
        source: Where they are from.

    Returns:
        The model, and (n,) log milliseconds that were predicted leaving the model's family out.
    """
    logs, target = np.log(np.maximum(counts, 1e-6)), np.log(ms_per_image)
    rate = float((counts[:, 0] / ms_per_image).max())
    held_out = np.empty(len(target))
    for family in np.unique(families):
        test = families == family
        mean, scale, weights, intercept = _fit(logs[~test], target[~test])
        held_out[test] = intercept + terms(logs[test], mean, scale) @ weights
        # The floor of the others alone.
        best = float((counts[~test, 0] / ms_per_image[~test]).max())
        held_out[test] = np.maximum(held_out[test], logs[test, 0] - np.log(best))
    mean, scale, weights, intercept = _fit(logs, target)
    numbers = {"mean": mean, "scale": scale, "low": logs.min(axis=0), "high": logs.max(axis=0), "weights": weights}
    model = DeviceModel(
        device=device,
        precision=precision,
        min_batch=batches[0],
        max_batch=batches[1],
        source=source,
        **{name: [float(number) for number in values] for name, values in numbers.items()},
        intercept=intercept,
        margin=float(np.quantile(np.abs(target - held_out), 0.95)),
        macs_per_ms=rate,
    )
    return model, held_out


def _fit(logs: Floats, target: Floats) -> tuple[Floats, Floats, Floats, float]:
    mean: Floats = logs.mean(axis=0)
    scale: Floats = np.maximum(logs.std(axis=0), 1e-9)
    x, intercept = terms(logs, mean, scale), float(target.mean())
    system = x.T @ x + PENALTY * len(x) * np.eye(x.shape[1])
    weights: Floats = np.linalg.solve(system, x.T @ (target - intercept)).astype(np.float64)
    return mean, scale, weights, intercept


def _family(timm: object, model: str) -> str:
    module = timm.models._registry._model_to_module[model]  # type: ignore[attr-defined]
    return re.sub(r"^(swin_transformer|vision_transformer).*", r"\1", module)


if __name__ == "__main__":
    main()
