"""``--output`` under ``kill -9``, and of two commands at once: each file is one command's whole answer."""

import json
import subprocess
import sys
import time

import pandas as pd
import pytest

WRITER = """
import sys
from pathlib import Path
from tests.fabricated import DEVICE, fabricated_bundle, fabricated_posterior, tokens_of
from thesis_rec.commands.recommend_command import write_answer
from thesis_rec.recommendation.asking import recommend_for
from thesis_rec.recommendation.request import Request
bundle, tokens = fabricated_bundle(), tokens_of(sys.argv[1], 3)
posterior = fabricated_posterior(bundle, tokens)
found = recommend_for(bundle, tokens, Request(device=DEVICE), posterior=posterior)
print("ready", flush=True)
while True:
    write_answer(found, Path(sys.argv[2]))
"""


@pytest.fixture
def writers(tmp_path, project_dir):
    """Two processes that write their answers to one folder, again and again."""
    found = [
        subprocess.Popen([sys.executable, "-c", WRITER, name, str(tmp_path / "out")], stdout=subprocess.PIPE,
                         cwd=project_dir)
        for name in ("first", "second")
    ]  # fmt: skip
    for process in found:
        assert process.stdout.readline() == b"ready\n"
    yield found
    for process in found:
        process.kill()
        process.wait()


def whole(folder):
    """The dataset that document and report are about; the table can be read."""
    assert len(pd.read_parquet(folder / "recommendation.parquet"))
    page = (folder / "recommendation.html").read_text()
    assert page.rstrip().endswith("</html>")
    return json.loads((folder / "recommendation.json").read_text())["dataset"]["dataset_id"]


def test_two_answers_at_once_and_a_kill_leave_whole_files(writers, tmp_path):
    folder = tmp_path / "out"
    until = time.monotonic() + 60
    while not (folder / "recommendation.parquet").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert {whole(folder) for _ in range(10)} <= {"first", "second"}
    for writer in writers:
        writer.kill()
        writer.wait()
    assert whole(folder) in ("first", "second")
