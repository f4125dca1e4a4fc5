"""Published benchmark tables as hardware profiles."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from thesis_rec.base.errors import ItemError
from thesis_rec.hardware.fingerprint import slug
from thesis_rec.hardware.profiling import COLUMNS

_NAME = re.compile(
    r"benchmark-infer-(?P<precision>[a-z0-9_]+)-(?P<layout>n\w+?)-pt(?P<torch>\d+)-(?P<stack>(?:cu\d+|cpu))-(?P<device>.+)$"
)
_PRECISIONS = {"amp": "fp16", "amp_bf16": "bf16", "fp16": "fp16", "bf16": "bf16", "fp32": "fp32"}


def import_timm_benchmark(
    table: pd.DataFrame, file_name: str, device: str | None = None, precision: str | None = None
) -> pd.DataFrame:
    """Rows of ``hardware_profiles`` from one of timm's published inference benchmarks.

    The tables lie in the folder ``results`` of huggingface/pytorch-image-models and are named such as
    ``benchmark-infer-amp-nhwc-pt240-cu124-rtx3090.csv``; precision, device and torch version are read from the name.
    Their latency is a mean over many calls, so p50 is that mean and p95 is unknown. A model that is listed at several
    image sizes is kept at each, as ``name@size``.

    Args:
        table: The CSV table as published.
        file_name: Its name, kept as the rows' source.
        device: Device identifier, if the name doesn't tell.
        precision: Precision, if the name doesn't tell.

    Raises:
        ItemError: If columns are missing, or the name tells neither device nor precision and none is given.
    """
    needed = {"model", "infer_samples_per_sec", "infer_step_time", "infer_batch_size"}
    if missing := needed - set(table.columns):
        text = f"columns {', '.join(sorted(missing))} are missing."
        raise ItemError(file_name, text, "Give an inference benchmark as timm publishes them.")
    stem = Path(file_name).stem
    dynamo = stem.endswith("-dynamo")
    match = _NAME.match(stem.removesuffix("-dynamo"))
    if match:
        kind = "cpu" if match["stack"] == "cpu" else "cuda"
        # pt113 is 1.13, pt240 is 2.4.0.
        major, rest = match["torch"][0], match["torch"][1:]
        version = f"{major}.{rest if major == '1' else rest[:1]}"
        # Compiled graphs run at another speed: for comparisons that is another device.
        named = f"{kind}_{slug(match['device'])}_torch{version}{'_compiled' if dynamo else ''}_{match['layout']}"
        device = device or named
        precision = precision or _PRECISIONS.get(match["precision"])
    if not device or not precision:
        raise ItemError(file_name, "the file name tells no device or precision.", "Give device and precision.")
    rows = pd.DataFrame(
        {
            "model_id": table["model"].astype(str),
            "device": device,
            "precision": precision,
            "batch_size": table["infer_batch_size"].astype(int),
            # The published step time is that of a batch.
            "latency_ms_p50": table["infer_step_time"].astype(float),
            "throughput": table["infer_samples_per_sec"].astype(float),
            "n_parameters": _scaled(table, "param_count", 1e6),
            "macs": _scaled(table, "infer_gmacs", 1e9),
            # Millions of fp32 activations of one image.
            "activation_mb": _scaled(table, "infer_macts", 4e6 / (1 << 20)),
            "source": f"timm:{Path(file_name).name}",
        }
    )
    size = table["infer_img_size"] if "infer_img_size" in table else pd.Series("", index=table.index)
    repeated = rows["model_id"].duplicated(keep=False)
    rows.loc[repeated, "model_id"] = rows["model_id"][repeated] + "@" + size[repeated].astype(str)
    return rows.reindex(columns=COLUMNS).drop_duplicates(["model_id", "batch_size"])


def _scaled(table: pd.DataFrame, column: str, factor: float) -> pd.Series:
    if column not in table:
        return pd.Series(float("nan"), index=table.index)
    return pd.to_numeric(table[column], errors="coerce") * factor
