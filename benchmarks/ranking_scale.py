"""How ranking scales with the number of candidates: time and memory from 100 to a million models for one dataset.

The reference is what no ranker can beat: one dot product per model and a partial sort (numpy), on the same features.
Features are random and memory-mapped from a file, as the embeddings of a hub would be; the network has the size of the
default configuration and random weights, which cost what trained ones cost.

    python benchmarks/ranking_scale.py [--largest 1000000] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from result import add_save_option, finish

SIZES = (100, 1_000, 10_000, 100_000, 1_000_000)
FEATURES, TOKEN_FEATURES, TOKENS = 76, 143, 12
TOP = 10


def measure(path: str, count: int, threads: int, chunk: int) -> dict[str, float]:
    """Time both ways of ranking in this process, whose memory belongs to this size alone."""
    import numpy as np
    import torch

    from thesis_rec.thesis.rankers import CrossAttentionRanker

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = CrossAttentionRanker(FEATURES, TOKEN_FEATURES, width=64, n_layers=2).eval()
    for parameter in network.heads.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    tokens, mask = torch.randn(1, TOKENS, TOKEN_FEATURES), torch.ones(1, TOKENS, dtype=torch.bool)
    models = np.load(path, mmap_mode="r")[:count]
    prior = np.load(path.replace("models", "prior"), mmap_mode="r")[:count]
    query = np.random.default_rng(0).normal(size=FEATURES).astype(np.float32)

    def ours() -> None:
        network.top_k(models, tokens, mask, prior, k=TOP, chunk=chunk)

    def reference() -> None:
        score = np.concatenate([models[i : i + 65536] @ query for i in range(0, count, 65536)])
        best = np.argpartition(-score, min(TOP, count - 1))[:TOP]
        best[np.argsort(-score[best])]

    before = resident()
    found = {"models": count}
    for name, function in (("seconds", ours), ("reference_seconds", reference)):
        function()
        repeats = 5 if count <= 100_000 else 3
        times, busy = [], []
        for _ in range(repeats):
            started, worked = time.perf_counter(), time.process_time()
            function()
            times.append(time.perf_counter() - started)
            busy.append(time.process_time() - worked)
        found[name] = statistics.median(times)
        # On a machine that others use too, the time that the processor really worked for this.
        found[name.replace("seconds", "cpu_seconds")] = statistics.median(busy)
        if name == "seconds":
            # The mapped file's pages are shared and can be dropped; what counts is memory of the process's own.
            found["memory_mb"] = resident() - before
    return found


def resident() -> float:
    """Largest anonymous memory of this process so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["RssAnon"].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure every size in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=SIZES[-1])
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--chunk", type=int, default=2048, help="models per step")
    add_save_option(parser)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        path, count = arguments.one
        print(json.dumps(measure(path, int(count), arguments.threads, arguments.chunk)))
        return
    import numpy as np

    sizes = [size for size in SIZES if size <= arguments.largest]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "models.npy"
        rng = np.random.default_rng(0)
        file = np.lib.format.open_memmap(path, "w+", np.float32, (sizes[-1], FEATURES))
        for start in range(0, sizes[-1], 100_000):
            part = file[start : start + 100_000]
            part[:] = rng.standard_normal(part.shape, dtype=np.float32)
        file.flush()
        del file
        np.save(Path(folder) / "prior.npy", rng.standard_normal(sizes[-1], dtype=np.float32))
        print(f"{'models':>9} {'seconds':>9} {'us/model':>9} {'own MB':>7} {'dot product s':>14} {'ratio':>6}")
        for size in sizes:
            options = ["--threads", str(arguments.threads), "--chunk", str(arguments.chunk)]
            command = [sys.executable, __file__, "--one", str(path), str(size), *options]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            row = json.loads(done.stdout.splitlines()[-1])
            rows.append(row)
            print(
                f"{size:>9} {row['seconds']:>9.4f} {1e6 * row['seconds'] / size:>9.2f} {row['memory_mb']:>7.1f} "
                f"{row['reference_seconds']:>14.4f} {row['seconds'] / row['reference_seconds']:>6.1f}",
                flush=True,
            )
    large = [row for row in rows if row["models"] >= 1_000]
    logs = [np.log([row[key] for row in large]) for key in ("models", "seconds")]
    exponent = float(np.polyfit(*logs, 1)[0]) if len(large) > 1 else None
    at = {row["models"]: row for row in rows}
    finish(
        {
            "benchmark": "ranking_scale",
            "device": f"{platform.processor() or platform.machine()}, {arguments.threads} threads",
            "reference": "numpy dot product and argpartition on the same memory-mapped features",
            "ratio": rows[-1]["seconds"] / rows[-1]["reference_seconds"],
            "growth_exponent": exponent,
            "seconds_100k": at.get(100_000, {}).get("seconds"),
            "cpu_seconds_100k": at.get(100_000, {}).get("cpu_seconds"),
            "memory_growth_mb": rows[-1]["memory_mb"] - at.get(10_000, rows[0])["memory_mb"],
            "rows": rows,
        },
        arguments.save,
        "Ranking at the scale of a hub",
        64,
        "Seconds to rank all models for one dataset with the cross-attention network of the default size, and memory "
        "of the process's own, against one dot product per model and a partial sort of the same memory-mapped "
        f"features. Time grows with the number of models to the power {exponent:.2f}; the ten best are exact."
        if exponent
        else "",
        rows=rows,
    )


if __name__ == "__main__":
    main()
