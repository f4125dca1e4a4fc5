"""``kedro recommend`` on the embedded zoo itself, under limits that are checked by measuring again."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.recommendation.test_trying import save_images

#: One thread: other tests run beside these.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "1"}


@pytest.fixture(scope="module")
def ask(project_dir, tmp_path_factory):
    """The command on some images, as JSON."""
    images = save_images(tmp_path_factory.mktemp("images") / "mine")

    def call(*limits):
        command = [
            sys.executable,
            "-m",
            "kedro",
            "recommend",
            str(images),
            "--zoo",
            "starter",
            "--top",
            "3",
            "--format",
            "json",
            # However slow other programs make this machine: all that is asked for is measured.
            "--measure-seconds",
            "120",
            *limits,
        ]
        done = subprocess.run(
            command, cwd=project_dir, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=300
        )
        return done.returncode, json.loads(done.stdout)

    return call


#: In a process of its own, as the command measures: what earlier tests set in this one changes how fast a model is.
MEASURE = """
import json, sys
from pathlib import Path
import pandas as pd
from thesis_rec.hardware.profiling import profile_backbone
from thesis_rec.hardware.timing import ProfileSettings
from thesis_rec.models.loaders import load_backbone
from thesis_rec.models.model_manifest import read_manifest

root, names = Path(sys.argv[1]), sys.argv[2:]
rows, _ = read_manifest(pd.read_csv(root / "model_manifest.csv", dtype=str, keep_default_na=False))
found = {row.model_id: load_backbone(row, root, "cpu") for row in rows if row.model_id in names}
settings = ProfileSettings(batch_sizes=(1,), max_seconds=0.5)
def once(name):
    return profile_backbone(found[name], "cpu", settings)["latency_ms_p50"].iloc[0]
json.dump([min(once(name) for _ in range(5)) for name in names], sys.stdout)
"""


def latencies_ms(project_dir, names):
    """Median latency of one image by each model; the least of some attempts: whatever else runs only adds to it."""
    root = project_dir / "data" / "01_raw" / "starter"
    command = [sys.executable, "-c", MEASURE, str(root), *names]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=300)
    return json.loads(done.stdout)


@pytest.mark.slow
def test_models_that_fit_a_latency_still_fit_when_they_are_measured_again(ask, project_dir):
    status, every = ask()
    assert status == 0
    first = [model["model_id"] for model in every["models"]]
    # Other programs can change the machine's speed between two measurements, so one of some attempts has to hold.
    for _ in range(4):
        # As the fastest of the first needs here and now: the slower ones are left out.
        limit = 1.1 * min(latencies_ms(project_dir, first))
        # On a busy machine the usual seconds measure fewer models than are shown.
        status, answer = ask("--max-latency-ms", f"{limit:.3f}", "--measure-seconds", "150")
        assert status == 0
        assert {model["basis"] for model in answer["models"]} == {"measured"}
        names = [model["model_id"] for model in answer["models"]]
        excess = max(latencies_ms(project_dir, names)) / limit
        if excess <= 1.05 and not set(first) <= set(names):
            break
    assert excess <= 1.05
    assert not set(first) <= set(names)


@pytest.mark.slow
def test_a_limit_that_nothing_meets_names_the_smallest_change(ask):
    status, answer = ask("--max-latency-ms", "0.0001")
    assert status == 2
    assert answer["models"] == []
    change = answer["relaxations"][0]
    assert change["changes"]["max_latency_ms"] > 0.0001
    assert change["model_ids"]
