"""Weight files are found in their folders, and links out of these are refused."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from tests.models.states import KEPT, save_sharded, small_state
from thesis_rec.base.errors import ItemError
from thesis_rec.models.checkpoint_reader import open_checkpoint
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
        ('{"weight_map": {}}', "lists no shards"),
        ('{"weight_map": {"a": "../other/model.safetensors"}}', "isn't a file beside it"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "isn't a file beside it"),
    ],
)
def test_bad_indices_are_refused(index, message, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ItemError, match=message):
        open_checkpoint(tmp_path, "m")


@pytest.mark.parametrize("name", ["model.safetensors", "model-00001-of-00003.safetensors"])
def test_links_out_of_the_folder_are_refused(name, tmp_path):
    folder = save_sharded(small_state(), tmp_path / "m") if "-" in name else tmp_path / "m"
    folder.mkdir(exist_ok=True)
    outside = tmp_path / "secret.safetensors"
    save_file({"w": torch.ones(3)}, outside)
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(outside)
    with pytest.raises(ItemError, match="link that leads out"):
        open_checkpoint(folder, "m")


def test_links_within_a_hub_cache_are_followed(tmp_path):
    repository = tmp_path / "models--someone--something"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    save_file(small_state(), repository / "blobs" / "123")
    (snapshot / "model.safetensors").symlink_to("../../blobs/123")
    assert len(open_checkpoint(snapshot, "m").tensors) == len(KEPT)
