"""Fixtures for all tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Generated examples may take their time: a busy machine is no failure.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def project_dir() -> Path:
    """Root of the repository."""
    return PROJECT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder of optional real test material (``data/``, ``benchmarks/``); the test is skipped when it is absent."""
    folder = Path(os.environ.get("THESIS_REC_SHARED", PROJECT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no real test material at THESIS_REC_SHARED ({folder.name})")
    return folder


@pytest.fixture(autouse=True)
def own_hub_home(monkeypatch):
    """A run tells libraries where downloads go; a test's project is another one."""
    before = os.environ.get("HF_HOME")
    monkeypatch.setenv("HF_HOME", "")
    if before is None:
        monkeypatch.delenv("HF_HOME")
    else:
        monkeypatch.setenv("HF_HOME", before)


@pytest.fixture
def one_thread():
    """Torch on one thread: several that wait for a busy processor spin, and count as work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def full_disk(tmp_path):
    """A file system of one MiB, which only root can mount."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs rights")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("slurm")}
    items.sort(key=lambda item: item.path not in slow)
