"""What ``kill -9`` does to a run: every rerun must complete and end with the outputs of an undisturbed run.

One undisturbed ``kedro run --env=test`` comes first. Then, for each of 20 moments, one drawn at random from each
twentieth of the processor time that the undisturbed run took, a run into an empty folder is killed at that moment and
the same command is given again. What it leaves is compared file by file; timings and the time stamps in the names of
checkpoints are left aside, nothing else is.

    python benchmarks/kill_and_rerun.py [--moments 20] [--jobs 1] [--env test] [--seed 0]

The last line is JSON; the exit status is 1 when any rerun failed or differs.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from result import PROCESSOR, PROJECT, finish, parser_of

#: The report of a run is about its time, memory and start; the chart draws seconds.
TIMING_FILES = re.compile(r"08_reporting/(run_report\.json|node_times/.*|evaluation/cost_accuracy\.(json|png))")
TIME_STAMP = re.compile(r"-time=\d{8}T\d{6}")


def start(root: Path, environment: str, log: Path) -> subprocess.Popen[bytes]:
    """The run, writing to ``root``, in a process group of its own."""
    command = [sys.executable, "-m", "kedro", "run", f"--env={environment}"]
    settings = {"THESIS_REC_TEST_ROOT": str(root), "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"}
    with log.open("ab") as out:
        return subprocess.Popen(
            command, cwd=PROJECT, env={**os.environ, **settings}, stdout=out, stderr=out, start_new_session=True
        )


def processor_seconds(pid: int) -> float:
    """Processor time of a process and its threads so far; what other programs take doesn't count."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_until(root: Path, environment: str, log: Path, moment: float = math.inf) -> tuple[int, float]:
    """Run, and kill the run once it has used ``moment`` seconds of processor time.

    Returns:
        Exit status, negative for a run that was killed, and processor seconds, up to the last look.
    """
    process = start(root, environment, log)
    used = 0.0
    while process.poll() is None:
        # Zero once the process has ended and waits to be asked for its status.
        used = max(used, processor_seconds(process.pid))
        if used >= moment:
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.01)
    return process.returncode, used


def files(root: Path) -> dict[str, Path]:
    """All files by their path without time stamps; not those about timings, nor hidden ones that were being written."""
    found = sorted(path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))
    named = {TIME_STAMP.sub("", path.relative_to(root).as_posix()): path for path in found}
    if len(named) < len(found):
        raise RuntimeError(f"{root}: two files differ only in their time stamp")
    return {name: path for name, path in named.items() if not TIMING_FILES.fullmatch(name)}


def differences(expected: Path, actual: Path) -> list[str]:
    """Names of the files that only one folder has, or whose content differs."""
    left, right = files(expected), files(actual)
    unequal = [name for name in left.keys() & right.keys() if not equal(content(left[name]), content(right[name]))]
    return sorted({*(left.keys() ^ right.keys()), *unequal})


def content(path: Path) -> Any:
    """What a file holds, as nested dictionaries and lists; bytes where the format is unknown."""
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    if path.suffix == ".parquet":
        import pandas as pd

        return pd.read_parquet(path).to_dict(orient="list")
    if path.suffix == ".npz":
        import numpy as np

        with np.load(path) as arrays:
            return dict(arrays)
    if path.suffix in (".pt", ".ckpt"):
        import torch

        return torch.load(path, map_location="cpu", weights_only=True)
    return path.read_bytes()


def equal(left: Any, right: Any) -> bool:
    """Whether two contents are the same to the bit, entries about seconds aside."""
    if isinstance(left, dict) and isinstance(right, dict):
        keys = [{key for key in part if "seconds" not in str(key)} for part in (left, right)]
        return keys[0] == keys[1] and all(equal(left[key], right[key]) for key in keys[0])
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(equal, left, right))
    if hasattr(left, "tolist") and hasattr(right, "tolist"):
        import numpy as np

        one, two = np.asarray(left), np.asarray(right)
        return one.dtype == two.dtype and one.shape == two.shape and one.tobytes() == two.tobytes()
    # NaN and missing values don't equal themselves.
    if type(left) is not type(right) or repr(left) in ("nan", "<NA>", "NaT"):
        return repr(left) == repr(right)
    return bool(left == right)


def trial(folder: Path, environment: str, expected: Path, moment: float) -> dict[str, Any]:
    """Kill a run at a moment, run again and compare."""
    root = folder / "data"
    root.mkdir(parents=True)
    while run_until(root, environment, folder / "killed.log", moment)[0] >= 0:
        # Some runs need a little less than the undisturbed one did.
        shutil.rmtree(root)
        root.mkdir()
        moment *= 0.97
    left = len(files(root))
    status, seconds = run_until(root, environment, folder / "rerun.log")
    return {
        "moment": round(moment, 1),
        "files_left": left,
        "rerun_status": status,
        "rerun_seconds": round(seconds, 1),
        "differs": differences(expected, root),
    }


def main() -> None:
    """Run, kill, run again, compare."""
    parser = parser_of(__doc__)
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1, help="moments that are tried at a time")
    parser.add_argument("--env", default="test", help="an environment that writes to THESIS_REC_TEST_ROOT")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep all files there, for a look at what differs")
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        status, seconds = run_until(folder / "undisturbed", arguments.env, folder / "undisturbed.log")
        if status:
            sys.exit(f"the undisturbed run failed:\n{(folder / 'undisturbed.log').read_text()[-2000:]}")
        print(f"undisturbed: {seconds:.1f} s of processor time, {len(files(folder / 'undisturbed'))} files")
        moments = [seconds * (i + draw.random()) / arguments.moments for i in range(arguments.moments)]

        def attempt(number: int) -> dict[str, Any]:
            row = trial(folder / f"{number:02d}", arguments.env, folder / "undisturbed", moments[number])
            print(row, flush=True)
            return row

        with ThreadPoolExecutor(arguments.jobs) as pool:
            rows = list(pool.map(attempt, range(arguments.moments)))
    good = sum(row["rerun_status"] == 0 and not row["differs"] for row in rows)
    finish(
        {
            "benchmark": "kill_and_rerun",
            "device": f"{PROCESSOR}, 1 thread",
            "reference": "the outputs of an undisturbed run",
            "ratio": good / len(rows),
            "moments": len(rows),
            "completed_and_equal": good,
            "undisturbed_cpu_seconds": round(seconds, 1),
            "median_rerun_cpu_seconds": statistics.median(row["rerun_seconds"] for row in rows),
            "rows": rows,
        },
        arguments.save,
        "Killed runs",
        66,
        f"`kill -9` at {len(rows)} random moments of a run, one from each of as many equal parts of its "
        f"{seconds:.0f} s of processor time, and the same command again: {good} reruns completed with the outputs of "
        "an undisturbed run, timings and time stamps in names aside.",
        rows=[row | {"differs": ", ".join(row["differs"]) or "nothing"} for row in rows],
    )
    sys.exit(good < len(rows))


if __name__ == "__main__":
    main()
