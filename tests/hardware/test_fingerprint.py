"""Devices by their names."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from thesis_rec.base.devices import processors
from thesis_rec.hardware.fingerprint import device_id, slug


def test_a_device_id_names_this_machine():
    found = device_id()
    assert found.startswith("cpu_")
    assert f"_{processors()}c{torch.get_num_threads()}t_torch" in found


def test_device_ids_are_readable_words(monkeypatch):
    assert slug("Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz") == "intel-xeon-platinum-8481c"
    assert slug("") == "unknown"
    gpu = SimpleNamespace(name="NVIDIA H200", major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.11.0+cu130")
    assert device_id("cuda:1") == "cuda_nvidia-h200_sm90_torch2.11"
