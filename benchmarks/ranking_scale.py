"""How ranking scales with the number of candidates: time and memory from 100 to a million models for one dataset.

The reference is what no ranker can beat: one dot product per model and a partial sort (numpy), on the same features.
Features are random and memory-mapped from a file, as the responses of a hub's models would be; what ranks is the
posterior of a knowledge of 200 models, of which no candidate is one: each follows those that are like it.

    python benchmarks/ranking_scale.py [--largest 1000000] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from result import PROCESSOR, finish, in_own_process, parser_of

SIZES = (100, 1_000, 10_000, 100_000, 1_000_000)
FEATURES, KNOWN, DATASETS = 76, 200, 30
TOP = 10


def learned(rng: Any) -> tuple[Any, Any]:
    """A knowledge of random models on random datasets, and one more dataset."""
    import numpy as np

    from thesis_rec.base.tables import ModelTable, TaskTokens
    from thesis_rec.knowledge.knowledge import fit_knowledge

    # Few things in common, as measurements of like models have, so that there is something to follow.
    common = rng.standard_normal((KNOWN, 4))
    code = (common @ rng.standard_normal((4, FEATURES)) + rng.standard_normal((KNOWN, FEATURES)) / 4).astype(np.float32)
    families = [f"family{i % 10}" for i in range(KNOWN)]
    models = ModelTable([f"known{i}" for i in range(KNOWN)], code, families, np.full(KNOWN, 1e6), reference=code)
    wants = rng.standard_normal((DATASETS + 1, 4))
    tasks = [
        TaskTokens(f"d{i}", rng.standard_normal((2, 4, 8)).astype(np.float32), list("abcd"), 40, "", want)
        for i, want in enumerate(wants.astype(np.float32))
    ]
    values = 1 / (1 + np.exp(-wants[:-1] @ common.T))
    knowledge = fit_knowledge(models, tasks[:-1], values, [f"domain{i % 10}" for i in range(DATASETS)])
    assert knowledge.models, "nothing was learned that candidates could follow"
    return knowledge, tasks[-1]


def measure(path: str, count: int, threads: int) -> dict[str, float]:
    """Time both ways of ranking in this process, whose memory belongs to this size alone."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    from thesis_rec.base.tables import ModelTable

    threadpool_limits(threads)
    rng = np.random.default_rng(0)
    knowledge, task = learned(rng)
    models = np.load(path, mmap_mode="r")[:count]
    table = ModelTable([f"m{i}" for i in range(count)], models, ["new"] * count, np.full(count, 1e6), reference=models)
    query = rng.normal(size=FEATURES).astype(np.float32)

    def ours() -> None:
        knowledge.posterior(table, task).ranking()[:TOP]

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
    parser = parser_of(__doc__)
    parser.add_argument("--largest", type=int, default=SIZES[-1])
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        path, count = arguments.one
        print(json.dumps(measure(path, int(count), arguments.threads)))
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
        for size in sizes:
            rows.append(in_own_process("--one", path, size, "--threads", arguments.threads))
            print(rows[-1], flush=True)
    large = [row for row in rows if row["models"] >= 1_000]
    logs = [np.log([row[key] for row in large]) for key in ("models", "cpu_seconds")]
    exponent = float(np.polyfit(*logs, 1)[0]) if len(large) > 1 else None
    at = {row["models"]: row for row in rows}
    finish(
        {
            "benchmark": "ranking_scale",
            "device": f"{PROCESSOR}, {arguments.threads} threads",
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
        "Seconds to rank all models for one dataset by the posterior of a knowledge of 200 models, and memory "
        "of the process's own, against one dot product per model and a partial sort of the same memory-mapped "
        f"features. Processor seconds grow with models to the power {exponent:.2f}; the ten best are exact."
        if exponent
        else "",
        rows=rows,
    )


if __name__ == "__main__":
    main()
