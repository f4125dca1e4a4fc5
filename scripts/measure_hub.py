"""Count and time the architectures of the hub zoo with random weights, on whatever machine this runs.

Results are lines of JSON, one file for each process, written as they come; what a file of the folder holds already is
not done again. ``join`` writes
the files of the zoo from them; ``scripts/hub_manifest.py`` then takes the counts into the manifest.

    python scripts/measure_hub.py count --out FOLDER [--timm LIST] [--workers 14]
    python scripts/measure_hub.py time --out FOLDER --device cpu --cores 0,1 [--part 0/4] [--published LIST]
    python scripts/measure_hub.py time --out FOLDER --device cuda:0
    python scripts/measure_hub.py join --out FOLDER
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

MANIFEST = Path(__file__).parents[1] / "data/01_raw/hub/model_manifest.csv"

#: Precision, images in a call, and the multiply-accumulates beyond which a call would take too long to be repeated.
CELLS = {
    "cpu": [("fp32", 1, 3e11), ("fp32", 8, 7e11)],
    "cuda": [("fp32", 1, 4e12), ("fp32", 32, 4e12), ("fp16", 1, 3e13), ("fp16", 32, 3e13), ("fp16", 128, 3e13),
             ("bf16", 1, 3e13), ("bf16", 32, 3e13)],
}  # fmt: skip


def main() -> None:
    """Do the part that the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["count", "time", "join"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cores", default="")
    parser.add_argument("--part", default="0/1")
    parser.add_argument("--published", type=Path, help="architectures measured first and at batch 8, one a line")
    parser.add_argument("--timm", type=Path, help="further architectures of timm to count, as name@pixels")
    parser.add_argument("--seconds", type=float, default=560, help="stop after this time")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.what == "join":
        _join(arguments.out)
        return
    stop = time.monotonic() + arguments.seconds
    if arguments.cores:
        os.sched_setaffinity(0, {int(core) for core in arguments.cores.split(",")})
    published = arguments.published.read_text().split() if arguments.published else []
    jobs = architectures(published, arguments.timm)
    index, count = (int(number) for number in arguments.part.split("/"))
    jobs = dict(list(jobs.items())[index::count])
    import torch

    torch.set_num_threads(len(arguments.cores.split(",")) if arguments.cores else 1)
    name = f"{arguments.what}_{arguments.device.replace(':', '')}_{index}.jsonl"
    done = set(_read(arguments.out, f"{arguments.what}_{arguments.device[:3]}*.jsonl"))
    counts = _read(arguments.out, "count_*.jsonl") if arguments.what == "time" else {}
    with (arguments.out / name).open("a") as file:
        for key, (row, size) in jobs.items():
            if key in done or time.monotonic() > stop:
                continue
            try:
                if arguments.what == "count":
                    found: list[dict[str, Any]] = [_count(row, size)]
                else:
                    found = _time(row, key, arguments.device, counts.get(key), key in published)
            except Exception as error:
                found = [{"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}]
            for outcome in found:
                file.write(json.dumps({"architecture": key, **outcome}) + "\n")
            file.flush()


def architectures(published: Sequence[str] = (), timm_list: Path | None = None) -> dict[str, tuple[Any, int | None]]:
    """A row of each architecture, those of published tables first; and the image size where it isn't the row's."""
    from thesis_rec.models.model_manifest import ManifestRow, read_manifest

    rows, _ = read_manifest(pd.read_csv(MANIFEST, dtype=str))
    jobs: dict[str, tuple[Any, int | None]] = {}
    for row in rows:
        key = str((row.model_extra or {}).get("architecture", ""))
        if key:
            jobs.setdefault(key, (row, None))
    for word in timm_list.read_text().split() if timm_list else []:
        name, _, size = word.partition("@")
        made = ManifestRow(model_id=f"timm/{name}", loader="timm", source=f"hf-hub:timm/{name}")
        jobs.setdefault(f"timm/{word}", (made, int(size)))
    first = {key: jobs[key] for key in published if key in jobs}
    return first | jobs


def _count(row: Any, size: int | None) -> dict[str, Any]:
    from untrained import build_untrained, checkpoint_bytes

    from thesis_rec.hardware.profiling import describe_backbone

    backbone = build_untrained(row, "meta")
    backbone.preparation = replace(backbone.preparation, size=size or backbone.input_size)
    return {
        **describe_backbone(backbone, "meta"),
        "input_size": backbone.input_size,
        "n_features": backbone.n_features,
        "file_bytes": checkpoint_bytes(row, backbone),
    }


def _time(row: Any, key: str, device: str, counts: dict[str, Any] | None, is_published: bool) -> list[dict[str, Any]]:
    import torch

    from thesis_rec.hardware.profiling import profile_backbone
    from thesis_rec.hardware.timing import ProfileSettings

    if counts is None or "error" in counts:
        return [{"error": "not counted"}]
    description = described(counts)
    kind = device.partition(":")[0]
    cells = [
        (precision, batch)
        for precision, batch, limit in CELLS[kind]
        if counts["macs"] * batch <= limit and (kind == "cuda" or batch == 1 or is_published)
    ]
    backbone = random_network(row, device)
    backbone.model_id = key
    settings = ProfileSettings(warmup=2, min_repeats=5, max_repeats=50, tolerance=0.02, max_seconds=0.06)
    rows: list[dict[str, Any]] = []
    for precision in dict.fromkeys(precision for precision, _ in cells):
        batches = [batch for found, batch in cells if found == precision]
        try:
            calls = settings.model_copy(update={"precisions": (precision,), "batch_sizes": tuple(batches)})
            table = profile_backbone(backbone, device, calls, description)
        except Exception as error:
            # One precision that a network can't run in leaves the others.
            rows.append({"error": f"{precision}: {' '.join(str(error).split())[:150]}"})
            continue
        rows.extend(json.loads(table.to_json(orient="records", double_precision=6)))
    del backbone
    if kind == "cuda":
        torch.cuda.empty_cache()
    return rows or [{"error": "too large to be timed"}]


def described(counts: Any) -> dict[str, float]:
    """Counts of an architecture, by name, as a profile takes them."""
    return {name: counts[name] for name in ("n_parameters", "macs", "activation_mb", "n_operations", "activations")}


def random_network(row: Any, device: str) -> Any:
    """The network with cheap random weights: filling billions of numbers by inverse error functions takes minutes."""
    import torch
    from untrained import build_untrained

    if device != "cpu":
        return build_untrained(row, device)
    # Speed doesn't depend on values, but subnormal numbers, which fresh memory may hold, are slow.
    kept = {name: getattr(torch.Tensor, name) for name in ("normal_", "uniform_", "erfinv_")}
    for name in kept:
        setattr(torch.Tensor, name, lambda tensor, *_, **__: tensor.zero_())
    try:
        backbone = build_untrained(row, device)
    finally:
        for name, method in kept.items():
            setattr(torch.Tensor, name, method)
    block = 0.02 * torch.randn(1 << 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in backbone.network.parameters():
            if parameter.ndim > 1:
                flat = parameter.view(-1) if parameter.is_contiguous() else parameter.reshape(-1)
                for start in range(0, flat.numel(), len(block)):
                    part = flat[start : start + len(block)]
                    part.copy_(block[: len(part)])
    return backbone


def _join(folder: Path) -> None:
    """Write ``architecture_counts.parquet`` and, for each model of the manifest, ``hardware_profiles.parquet``."""
    from thesis_rec.hardware.profiling import COLUMNS

    counts = pd.DataFrame(list(_read(folder, "count_*.jsonl").values()))
    counts = counts[counts["macs"].notna()].drop(columns="error", errors="ignore").sort_values("architecture")
    whole = [name for name in counts.columns if name not in ("architecture", "activation_mb")]
    counts = counts.astype(dict.fromkeys(whole, "int64"))
    counts.to_parquet(MANIFEST.parent / "architecture_counts.parquet", index=False, compression="zstd")
    lines = [json.loads(line) for file in folder.glob("time_*.jsonl") for line in file.read_text().splitlines()]
    times = pd.DataFrame([line for line in lines if "error" not in line])
    times = times.drop_duplicates(["architecture", "device", "precision", "batch_size"], keep="last")
    models = pd.read_csv(MANIFEST, dtype=str)[["model_id", "architecture"]].dropna()
    table = models.merge(times.drop(columns="model_id"), on="architecture")
    table["source"] = "measured:" + table.pop("architecture")
    table = table.sort_values(["device", "precision", "batch_size", "source", "model_id"])
    # Three digits are more than a repetition agrees in.
    measured = ["latency_ms_p50", "latency_ms_p95", "throughput", "latency_ms_p50_low", "latency_ms_p50_high"]
    for name in measured:
        table[name] = table[name].map(lambda value: float(f"{value:.4g}"))
    table[COLUMNS].to_parquet(MANIFEST.parent / "hardware_profiles.parquet", index=False, compression="zstd")


def _read(folder: Path, pattern: str) -> dict[str, dict[str, Any]]:
    lines = [json.loads(line) for file in folder.glob(pattern) for line in file.read_text().splitlines()]
    return {line["architecture"]: line for line in lines}


if __name__ == "__main__":
    main()
