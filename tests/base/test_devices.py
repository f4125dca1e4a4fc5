"""What this machine has."""

from __future__ import annotations

from pathlib import Path

import pytest

from thesis_rec.base import devices
from thesis_rec.base.errors import ConfigurationError


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "GPU"])
def test_a_device_that_is_not_there_is_one_error_before_any_model_is_loaded(name: str) -> None:
    """Each of hundreds of models failed, and was said to have a wrong loader or source."""
    with pytest.raises(ConfigurationError, match=f"The device '{name}' can't be used: .*Take auto, or cpu"):
        devices.torch_device(name)


def test_the_memory_is_the_machine_s_or_what_a_container_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = {"SC_PHYS_PAGES": 4 << 20, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr("os.sysconf", pages.__getitem__)
    monkeypatch.setattr(devices, "_CGROUP", tmp_path / "memory.max")
    assert devices.memory_mb("cpu") == 16384
    for limit, expected in (("max", 16384), (str(2 << 30), 2048), (str(1 << 62), 16384)):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        assert devices.memory_mb("cpu") == expected
    monkeypatch.delattr("os.sysconf")
    assert devices.memory_mb("cpu") is None
