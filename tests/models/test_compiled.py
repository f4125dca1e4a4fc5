"""Compiled functions work where nothing can be written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest

import thesis_rec
from thesis_rec.models import kmeans as module

CLUSTER = (
    "import numpy as np; from thesis_rec.models.kmeans import kmeans_1d; print(kmeans_1d(np.arange(9, dtype='f4'), 3))"
)


def test_without_a_place_for_the_cache_functions_are_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(**options: bool) -> object:
        if options.get("cache"):
            raise RuntimeError("cannot cache function 'twice': no locator available for file 'x.py'")
        return numba.njit(**options)

    monkeypatch.setattr(module, "njit", refusing)

    @module.compiled
    def twice(x: int) -> int:
        return 2 * x

    assert twice(4) == 8


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None or os.geteuid() != 0, reason="needs mount namespaces")
def test_a_read_only_installation_and_home(tmp_path: Path) -> None:
    source = tmp_path / "src"
    package = Path(thesis_rec.__file__).parent
    shutil.copytree(package, source / "thesis_rec", ignore=shutil.ignore_patterns("__pycache__"))
    home = tmp_path / "home"
    home.mkdir()
    mounts = f"mount --bind {source} {source} && mount -o remount,ro,bind {source} && mount -t tmpfs -o ro tmpfs {home}"
    probe = subprocess.run(["unshare", "-m", "bash", "-c", mounts], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("mounting isn't allowed here")
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    environment |= {"HOME": str(home), "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    run = f'{mounts} && exec "{sys.executable}" -c "{CLUSTER}"'
    found = subprocess.run(
        ["unshare", "-m", "bash", "-c", run], env=environment, capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout.strip()) == (0, "[7. 4. 1.]"), found.stderr
