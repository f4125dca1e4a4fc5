"""Every kind of source gives the weights that were saved; adding a kind takes one function."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.models import tiny_models
from tests.models.states import parameter_vector, save_sharded, small_state
from thesis_rec.base.errors import ItemError
from thesis_rec.models.checkpoint_reader import open_network, read_state
from thesis_rec.models.model_extraction import EXTRACTORS, extract_model, extractor_name, open_model
from thesis_rec.models.model_manifest import ManifestRow
from thesis_rec.models.model_sources import locate


def row(loader: str = "local", source: str = "m", **more: str) -> ManifestRow:
    return ManifestRow.model_validate({"model_id": "the model", "loader": loader, "source": source, **more})


def names(reader) -> set[str]:
    return {tensor.name for tensor in reader.tensors}


def test_the_loader_chooses_the_extractor_unless_the_row_does():
    chosen = [extractor_name(row(loader)) for loader in ("timm", "transformers", "open_clip", "local", "other")]
    assert chosen == ["timm", "huggingface", "open_clip", "state_dict", "huggingface"]
    assert extractor_name(row("timm", extractor="safetensors")) == "safetensors"


def test_timm_whichever_format_was_saved(tmp_path):
    network = tiny_models.save_timm(tmp_path / "both", safe="both")
    vectors = []
    for keep in ("model.safetensors", "pytorch_model.bin"):
        folder = tmp_path / keep
        folder.mkdir()
        (tmp_path / "both" / keep).rename(folder / keep)
        vectors.append(parameter_vector(open_model(row("timm", keep), tmp_path)))
    np.testing.assert_array_equal(vectors[0], vectors[1])
    np.testing.assert_array_equal(vectors[0], parameter_vector(read_state(network.state_dict(), "m")))


def test_transformers_whole_and_sharded_are_equal(tmp_path):
    network = tiny_models.tiny_vit()
    network.save_pretrained(tmp_path / "whole")
    network.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    whole, sharded = (extract_model(row("transformers", source), tmp_path) for source in ("whole", "sharded"))
    np.testing.assert_array_equal(whole["parameters"], sharded["parameters"])
    assert whole["sha256"] == sharded["sha256"]
    assert whole["n_parameters"] == sharded["n_parameters"] == sum(p.numel() for p in network.parameters())


def test_of_siglip_and_open_clip_the_image_half_is_read(tmp_path):
    network = tiny_models.tiny_siglip()
    network.save_pretrained(tmp_path / "siglip")
    reader = open_model(row("transformers", "siglip", extractor="siglip"), tmp_path)
    assert names(reader) == {name for name in network.state_dict() if name.startswith("vision_model.")}
    clip = tiny_models.save_open_clip(tmp_path / "clip")
    found = names(open_model(row("open_clip", "clip"), tmp_path))
    assert found == {name for name in clip.state_dict() if name.startswith("visual.")}


def test_plain_safetensors_and_nothing_else(tmp_path):
    save_sharded(small_state(), tmp_path / "s")
    save_file(small_state(), tmp_path / "one.safetensors")
    torch.save(small_state(), tmp_path / "m.pth")
    one, many = (
        parameter_vector(open_model(row(source=s, extractor="safetensors"), tmp_path)) for s in ("one.safetensors", "s")
    )
    np.testing.assert_array_equal(one, many)
    np.testing.assert_array_equal(one, parameter_vector(open_model(row(source="m.pth"), tmp_path)))
    with pytest.raises(ItemError, match="no safetensors file"):
        open_model(row(source="m.pth", extractor="safetensors"), tmp_path)


class TestDetectorPack:
    def open(self, content, tmp_path, **more):
        torch.save(content, tmp_path / "pack.pt")
        return open_model(row(source="pack.pt", extractor="detector_pack", **more), tmp_path)

    def test_a_member_is_chosen_by_name(self, tmp_path):
        pack = {"mnist": small_state(0), "svhn": {"state_dict": small_state(1)}}
        svhn = parameter_vector(self.open(pack, tmp_path, member="svhn"))
        np.testing.assert_array_equal(svhn, parameter_vector(read_state(small_state(1), "m")))

    def test_a_pack_of_one_and_a_bare_classifier_need_no_name(self, tmp_path):
        expected = parameter_vector(read_state(small_state(), "m"))
        for content in ({"mnist": small_state()}, small_state(), {"state_dict": small_state(), "epoch": 1}):
            np.testing.assert_array_equal(parameter_vector(self.open(content, tmp_path)), expected)

    @pytest.mark.parametrize("member", ["", "cifar"])
    def test_unknown_members_are_named(self, member, tmp_path):
        with pytest.raises(ItemError, match=r"several networks|no network 'cifar'") as caught:
            self.open({"mnist": small_state(0), "svhn": small_state(1)}, tmp_path, member=member)
        assert "mnist, svhn" in caught.value.hint

    def test_safetensors_are_read_as_they_are(self, tmp_path):
        save_file(small_state(), tmp_path / "model.safetensors")
        assert names(open_model(row(source="model.safetensors", extractor="detector_pack"), tmp_path))

    def test_anything_else_is_refused(self, tmp_path):
        with pytest.raises(ItemError, match="no state dict"):
            self.open([1, 2], tmp_path)


def test_unknown_extractors_are_named(tmp_path):
    with pytest.raises(ItemError, match="extractor 'mine' is unknown") as caught:
        open_model(row(extractor="mine"), tmp_path)
    assert "detector_pack" in caught.value.hint
    assert set(EXTRACTORS) >= {
        "huggingface",
        "siglip",
        "detector_pack",
        "timm",
        "open_clip",
        "safetensors",
        "state_dict",
    }


def test_adding_a_kind_takes_one_function_and_one_value(tmp_path, monkeypatch):
    """The walk through the module's own instructions."""

    def my_kind(row, root, cache):
        return open_network(locate(row, root, cache), row.model_id).select(lambda name: "layer" in name)

    monkeypatch.setitem(EXTRACTORS, "my_kind", my_kind)
    torch.save(small_state(), tmp_path / "m.pth")
    vector = extract_model(row(source="m.pth", extractor="my_kind"), tmp_path)
    assert vector["n_tensors"] == 6
