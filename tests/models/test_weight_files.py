"""Weight files are found in their folders, and links out of these are refused."""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.models.states import KEPT, save_sharded, small_state
from thesis_rec.base.errors import ItemError
from thesis_rec.models.checkpoint_reader import open_network
from thesis_rec.models.weight_files import find_weights


def test_folders_prefer_safetensors_and_the_wanted_library(tmp_path):
    for name in ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin"):
        (tmp_path / name).touch()
    assert find_weights(tmp_path, "m").name == "model.safetensors"
    assert find_weights(tmp_path, "m", prefer="open_clip").name == "open_clip_model.safetensors"


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "no index"),
        ('{"weight_map": []}', "no index"),
        ('{"weight_map": {}}', "it lists none"),
        ('{"weight_map": {"a": "../other/model.safetensors"}}', "isn't a file beside it"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "isn't a file beside it"),
    ],
)
def test_bad_indices_are_refused(index, message, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ItemError, match=message):
        open_network(tmp_path, "m")


@pytest.mark.parametrize("name", ["model.safetensors", "model-00001-of-00003.safetensors"])
def test_links_out_of_the_folder_are_refused(name, tmp_path):
    folder = save_sharded(small_state(), tmp_path / "m") if "-" in name else tmp_path / "m"
    folder.mkdir(exist_ok=True)
    outside = tmp_path / "secret.safetensors"
    save_file({"w": torch.ones(3)}, outside)
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(outside)
    with pytest.raises(ItemError, match="link that leads out"):
        open_network(folder, "m")


def test_links_within_a_hub_cache_are_followed(tmp_path):
    repository = tmp_path / "models--someone--something"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    save_file(small_state(), repository / "blobs" / "123")
    (snapshot / "model.safetensors").symlink_to("../../blobs/123")
    assert len(open_network(snapshot, "m").tensors) == len(KEPT)


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
        open_network(path, "m")
    assert not mark.exists()
    assert "state_dict" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("m.pt", "gzip", r"m\.pt is compressed by gzip"),
        ("m.bin", "bytes", r"m\.bin is truncated, or not of the format"),
        ("m.safetensors", "torch", r"m\.safetensors is truncated, or not of the format .* by torch\.save as \.pt"),
    ],
)
def test_files_of_another_kind_are_refused_for_what_they_are(name, content, reason, tmp_path):
    """They were said to be damaged, or to hold pickled code."""
    path = tmp_path / name
    torch.save({"w": torch.rand(3, 3)}, path)
    if content == "gzip":
        path.write_bytes(gzip.compress(path.read_bytes()))
    elif content == "bytes":
        path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(range(256)))
    with pytest.raises(ItemError, match=reason):
        open_network(path, "m")


@pytest.mark.parametrize(("name", "save"), [("m.pt", save_file), ("m.onnx", torch.save), ("m", save_file)])
def test_the_beginning_of_a_file_tells_what_it_is(name, save, tmp_path):
    save({"w": torch.ones(3, 3)}, tmp_path / name)
    assert open_network(tmp_path / name, "m").tensors[0].values().tolist() == [1.0] * 9


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path):
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(10)}, buffer)
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for entry in source.infolist():
            content = b"\0" * (1 << 26) if "/data/" in entry.filename else source.read(entry)
            bomb.writestr(entry.filename, content)
    with pytest.raises(ItemError, match="decompression bomb"):
        open_network(path, "m")


def test_numbers_and_arrays_beside_the_weights_are_plain_data(tmp_path):
    torch.save(
        {"state_dict": {"w": torch.ones(3, 3)}, "best": np.float32(0.5), "curve": np.arange(3.0)}, tmp_path / "m.pt"
    )
    assert open_network(tmp_path / "m.pt", "m").n_parameters == 9
    objects = np.array([Malicious(tmp_path / "ran")], dtype=object)
    torch.save({"state_dict": {"w": torch.ones(3, 3)}, "trojan": objects}, tmp_path / "m.pt")
    with pytest.raises(ItemError, match="pickled code"):
        open_network(tmp_path / "m.pt", "m")
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
        open_network(tmp_path / name, "m")
