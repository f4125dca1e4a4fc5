"""How long an answer takes, by phase, against ``kedro --version`` and ``import torch`` in the same run.

Each phase runs in a process of its own, some times over, with warm byte code; the least wall time and the least
processor time are printed, and whether the limits hold. Processor time is what a busy machine doesn't change much.

    python benchmarks/answer_time.py [--repeats 3]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from result import PROJECT, draw_images

#: Seconds: answers by the command beyond ``kedro --version``, by Python in a fresh process, and with encoding.
LIMITS = {"command, images not looked at": 1.0, "python, images not looked at": 2.0, "command, images encoded": 5.0}


def seconds(command: list[str], repeats: int) -> dict[str, float]:
    """Least wall and processor seconds of a command over some runs after one that warms the byte code."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    walls, processors = [], []
    for _ in range(repeats + 1):
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        walls.append(time.perf_counter() - started)
        processors.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {"wall_s": round(min(walls[1:]), 2), "processor_s": round(min(processors[1:]), 2)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = str(draw_images(Path(temporary) / "images", 10, 100, 64))
        kedro = [sys.executable, "-m", "kedro"]
        ask = f"import thesis_rec; thesis_rec.recommend({folder!r}, zoo='hub')"
        commands = {
            "kedro --version": [*kedro, "--version"],
            "import torch": [sys.executable, "-c", "import torch"],
            "command, images not looked at": [*kedro, "recommend", folder, "--zoo", "hub"],
            "python, images not looked at": [sys.executable, "-c", ask],
            "command, images encoded": [*kedro, "recommend", folder, "--zoo", "starter"],
        }
        found = {name: seconds(command, options.repeats) for name, command in commands.items()}
    base = found["kedro --version"]["wall_s"]
    held = {}
    for name, limit in LIMITS.items():
        beyond = base if name == "command, images not looked at" else 0.0
        held[name] = {"limit_s": limit, "beyond_s": beyond, "holds": found[name]["wall_s"] - beyond <= limit}
    sys.stdout.write(json.dumps({"seconds": found, "limits": held, "load": os.getloadavg()[0]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
