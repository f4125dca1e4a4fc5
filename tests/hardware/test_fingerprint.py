"""Devices by their names."""

from __future__ import annotations

import torch

from thesis_rec.hardware.fingerprint import Fingerprint, cpu_cores, device_fingerprint, slug


def test_fingerprint_names_this_machine():
    found = device_fingerprint()
    assert found.device_id.startswith("cpu_")
    assert f"{cpu_cores()}c{torch.get_num_threads()}t" in found.device_id
    assert found.as_dict()["device_id"] == found.device_id
    assert found.memory_mb > 100


def test_fingerprints_are_readable_words():
    assert slug("Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz") == "intel-xeon-platinum-8481c"
    assert slug("") == "unknown"
    gpu = Fingerprint("cuda", "NVIDIA H200", 132, 0, "9.0", "2.11", 143000)
    assert gpu.device_id == "cuda_nvidia-h200_sm90_torch2.11"
