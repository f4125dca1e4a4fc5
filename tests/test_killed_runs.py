"""``kill -9`` in training and in measuring: the same call again ends with what an undisturbed one has."""

import subprocess
import sys
import time

import pandas as pd
import pytest
import torch

from tests.training.test_fit import losses, train
from tests.truth.conftest import SETTINGS, TASKS, make_backbone, make_task
from thesis_rec.catalog import KeyedPartitionDataset
from thesis_rec.models.model_manifest import ManifestRow
from thesis_rec.truth.measuring import Campaign, measure_zoo
from thesis_rec.truth.settings import CampaignSettings

EPOCHS = 25
TRAIN = f"train(Path(sys.argv[1]), epochs={EPOCHS})"
MEASURE = "measure(Path(sys.argv[1]))"


def measure(folder):
    """Measure some models, each table saved at once."""
    images = {name: make_task(name, *sizes) for name, sizes in {"a": (3, 9, 4, 0), "b": (4, 9, 4, 1)}.items()}
    rows = [ManifestRow(model_id=f"m{i}", loader="timm", source=f"m{i}") for i in range(15)]
    cells = KeyedPartitionDataset(path=folder, format="parquet", depth=2)
    campaign = Campaign(images, TASKS, [], CampaignSettings(**dict(SETTINGS), device="cpu"))

    def load(row):
        return make_backbone(row.model_id, seed=int(row.source[1:]))

    for chunk in measure_zoo(rows, load, lambda row: row.source, campaign, cells.load()):
        cells.save(chunk)
    return {key: read().drop(columns="seconds", errors="ignore") for key, read in cells.load().items()}


def killed(call, folder, pattern, project_dir):
    """Start a call in a process of its own and kill it once a file is there and it goes on."""
    code = "import sys; from pathlib import Path; from tests.test_killed_runs import measure, train; " + call
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=project_dir)
    until = time.monotonic() + 900
    while not any(folder.glob(pattern)) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    assert process.poll() is None, "it ended before it was killed"
    assert any(folder.glob(pattern)), "nothing was saved in a quarter of an hour"
    process.kill()
    process.wait()


@pytest.mark.slow
def test_training(tmp_path, project_dir):
    killed(TRAIN, tmp_path / "cut", "**/*.ckpt", project_dir)
    resumed, whole = (train(tmp_path / name, epochs=EPOCHS) for name in ("cut", "whole"))
    assert losses(resumed) == losses(whole)
    assert all(torch.equal(tensor, resumed.state[name]) for name, tensor in whole.state.items())


@pytest.mark.slow
def test_measuring(tmp_path, project_dir):
    killed(MEASURE, tmp_path / "cut", "m1/*.parquet", project_dir)
    kept = {file: file.stat().st_ino for file in (tmp_path / "cut" / "m0").glob("linear_probe.parquet")}
    assert kept
    resumed, whole = measure(tmp_path / "cut"), measure(tmp_path / "whole")
    assert list(resumed) == list(whole)
    for key, table in whole.items():
        pd.testing.assert_frame_equal(resumed[key], table)
    # What was measured before the kill wasn't measured again.
    assert all(file.stat().st_ino == number for file, number in kept.items())
