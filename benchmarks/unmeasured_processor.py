"""How well the time of real models is told on a processor that nobody measured: this one.

Architectures of the hub zoo are timed here with random weights and held against what the shipped measurements of
another processor say, with and without the rate of matrix products. ``--save`` adds this processor to the others of
the file.
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import pandas as pd
from result import PROJECT, finish, parser_of

HUB = PROJECT / "data/01_raw/hub"
sys.path.insert(0, str(PROJECT / "scripts"))


def main() -> None:
    """Measure, print and on request save."""
    parser = parser_of(__doc__)
    parser.add_argument("--cores", default="", help="processors to use, such as 0,1; all by default")
    parser.add_argument("--models", type=int, default=40, help="architectures, evenly by operations")
    parser.add_argument("--max-gmacs", type=float, default=20, help="largest architecture")
    arguments = parser.parse_args()
    if arguments.cores:
        os.sched_setaffinity(0, {int(core) for core in arguments.cores.split(",")})
        os.environ["OMP_NUM_THREADS"] = str(len(arguments.cores.split(",")))
    row = _measure(arguments.models, arguments.max_gmacs)
    rows = [row]
    if arguments.save and arguments.save.is_file():
        data = json.loads(arguments.save.read_text(encoding="utf-8"))["data"]
        before = [dict(zip(data["columns"], values, strict=True)) for values in data["rows"]]
        rows = sorted([*(r for r in before if r["processor"] != row["processor"]), row], key=lambda r: r["processor"])
    text = (
        "Architectures of the hub zoo, timed with random weights at one image a call. `took` is the median of their "
        "time over that of the shipped measurements on another processor; `off` is the factor within which half of "
        "them, and 95 %, lie from the time that is told by the rate of matrix products (measured in a tenth of a "
        "second), `off without` from the shipped one; `within` is the share inside the interval of an answer, and "
        "`slower` that beyond the side that limits are held against."
    )
    finish(
        {"benchmark": "unmeasured_processor", "device": "several processors", "rows": rows},
        arguments.save, "Time on processors that weren't measured", 62, text, rows,
    )  # fmt: skip


def _measure(count: int, max_gmacs: float) -> dict[str, object]:
    """This processor's row."""
    import torch
    from measure_hub import architectures, described, random_network

    from thesis_rec.hardware.fingerprint import device_id, processor_rate
    from thesis_rec.hardware.prediction import figures
    from thesis_rec.hardware.profiling import profile_backbone
    from thesis_rec.hardware.timing import ProfileSettings

    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))
    processor = device_id("cpu")
    rate = processor_rate(processor)
    profiles = pd.read_parquet(HUB / "hardware_profiles.parquet")
    counts = pd.read_parquet(HUB / "architecture_counts.parquet").set_index("architecture")
    rows = {key: row for key, (row, _) in architectures().items() if key in counts.index}
    keys = sorted((key for key in rows if counts["macs"][key] <= 1e9 * max_gmacs), key=counts["macs"].get)
    chosen = [keys[place] for place in np.linspace(0, len(keys) - 1, count).round().astype(int)]
    settings = ProfileSettings(batch_sizes=(1,), warmup=2, min_repeats=5, max_repeats=50, max_seconds=0.3)
    took: dict[str, float] = {}
    for key in chosen:
        network = random_network(rows[key], "cpu")
        table = profile_backbone(network, "cpu", settings, described(counts.loc[key]))
        took[rows[key].model_id] = float(table["latency_ms_p50"].iloc[0])
    models = pd.DataFrame({"model_id": list(took), "family": ""})
    # By another name, so that it counts as not measured where the shipped figures are its own.
    told, untold = (figures(profiles, models, f"{processor}_again", rate=known) for known in (rate, None))
    actual = np.array([*took.values()])
    errors, without = (np.abs(np.log(actual / found["latency_ms"].to_numpy(float))) for found in (told, untold))
    factors = {
        "off (half)": np.median(errors), "off (95 %)": np.quantile(errors, 0.95),
        "off without (half)": np.median(without), "off without (95 %)": np.quantile(without, 0.95),
    }  # fmt: skip
    slower = actual > told["latency_ms_safe"].to_numpy(float)
    return {
        "processor": processor,
        "GFLOP/s": rate,
        "models": len(actual),
        "took": float(np.median(actual / untold["latency_ms"])),
        **{name: float(np.exp(value)) for name, value in factors.items()},
        "within": float(np.mean(~slower & (actual >= told["latency_ms_low"].to_numpy(float)))),
        "slower": float(slower.mean()),
    }


if __name__ == "__main__":
    main()
