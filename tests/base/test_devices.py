"""What this machine has."""

from __future__ import annotations

from importlib.util import spec_from_file_location
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


H200 = "NVIDIA H200, 9.0, 143771, Disabled"
CARD = "NVIDIA GeForce RTX 4090, 8.9, 24564, [N/A]"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with the GPUs that nvidia-smi lists, and a torch built for CUDA or not."""

    def made(listed: list[str], cuda: str = "'13.0'", visible: str | None = None) -> devices.Gpu | None:
        smi, torch = tmp_path / "nvidia-smi", tmp_path / "torch"
        torch.mkdir(exist_ok=True)
        (torch / "__init__.py").write_text("")
        (torch / "version.py").write_text(f"__version__ = '2.11.0'\ncuda: Optional[str] = {cuda}\nhip = '6.2'\n")
        smi.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in listed))
        smi.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        monkeypatch.setattr(devices, "find_spec", lambda name: spec_from_file_location(name, torch / "__init__.py"))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        devices.told_gpu.cache_clear()
        return devices.told_gpu()

    yield made
    devices.told_gpu.cache_clear()


@pytest.mark.parametrize("visible", [None, "0", "1", "1,0"])
def test_a_gpu_is_told_without_torch(machine, visible):
    assert machine([H200, H200], visible=visible) == ("NVIDIA H200", "9.0", 143771)
    assert devices.memory_mb("cuda") == 143771
    assert machine([CARD]) == ("NVIDIA GeForce RTX 4090", "8.9", 24564)


@pytest.mark.parametrize(
    ("listed", "cuda", "visible"),
    [
        ([], "'13.0'", None),
        ([H200, CARD], "'13.0'", None),  # torch takes the fastest first, whatever its number
        ([H200.replace("Disabled", "Enabled")], "'13.0'", None),
        ([H200], "None", None),
        ([H200], "'13.0'", ""),
        ([H200], "'13.0'", "-1"),
        ([H200], "'13.0'", "1"),
        ([H200], "'13.0'", "GPU-5d1b1e0f"),
    ],
)
def test_torch_is_asked_where_nvidia_smi_doesn_t_say_which_gpu_it_would_take(machine, listed, cuda, visible):
    assert machine(listed, cuda, visible) is None
