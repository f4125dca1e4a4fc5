"""PyTorch files that would run code or exhaust memory are refused."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from thesis_rec.base.errors import ItemError
from thesis_rec.models.checkpoint_reader import open_checkpoint


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("kind", ["archive", "legacy", "bare pickle"])
def test_pickled_code_never_runs(kind, tmp_path):
    mark, path = tmp_path / "ran", tmp_path / "model.pth"
    content = {"w": torch.ones(3), "trojan": Malicious(mark)}
    if kind == "bare pickle":
        path.write_bytes(pickle.dumps(Malicious(mark)))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "archive")
    with pytest.raises(ItemError, match="pickled code") as caught:
        open_checkpoint(path, "m")
    assert not mark.exists()
    assert "state_dict" in caught.value.hint


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path):
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(10)}, buffer)
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for entry in source.infolist():
            content = b"\0" * (1 << 26) if "/data/" in entry.filename else source.read(entry)
            bomb.writestr(entry.filename, content)
    with pytest.raises(ItemError, match="decompression bomb"):
        open_checkpoint(path, "m")


def test_numbers_and_arrays_beside_the_weights_are_plain_data(tmp_path):
    torch.save(
        {"state_dict": {"w": torch.ones(3, 3)}, "best": np.float32(0.5), "curve": np.arange(3.0)}, tmp_path / "m.pt"
    )
    assert open_checkpoint(tmp_path / "m.pt", "m").n_parameters == 9
    objects = np.array([Malicious(tmp_path / "ran")], dtype=object)
    torch.save({"state_dict": {"w": torch.ones(3, 3)}, "trojan": objects}, tmp_path / "m.pt")
    with pytest.raises(ItemError, match="pickled code"):
        open_checkpoint(tmp_path / "m.pt", "m")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"\n<!DOCTYPE html>", "a web page"),
    ],
)
def test_what_stands_in_a_file_s_place_is_said(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ItemError, match=message):
        open_checkpoint(tmp_path / name, "m")
