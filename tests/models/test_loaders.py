"""What is built, from where, and what is refused."""

from __future__ import annotations

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from tests.models import tiny_models
from thesis_rec.base.errors import ItemError
from thesis_rec.models.loaders import load_backbone
from thesis_rec.models.model_manifest import ManifestRow


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def row(loader: str, source: str = "m") -> ManifestRow:
    return ManifestRow(model_id="the model", loader=loader, source=source)


@pytest.mark.parametrize("loader", ["timm", "transformers", "open_clip"])
def test_models_come_from_a_hub_cache_too(loader, tmp_path, monkeypatch):
    if loader == "timm":
        tiny_models.save_timm(tmp_path / "m")
    elif loader == "transformers":
        tiny_models.save_transformers(tmp_path / "m", tiny_models.tiny_vit())
    else:
        tiny_models.save_open_clip(tmp_path / "m")
    cache = tmp_path / "hub"
    tiny_models.fill_hub_cache(cache, "someone/something", tmp_path / "m", revision="v1")
    monkeypatch.setattr("thesis_rec.models.model_sources.hub_is_reachable", lambda: False)
    pinned = ManifestRow(model_id="x", loader=loader, source="hf-hub:someone/something", revision="v1")
    assert load_backbone(pinned, tmp_path / "nowhere", cache=cache).n_features > 0


def test_weights_without_a_configuration_have_open_clip_s_own(tmp_path, monkeypatch):
    """The repositories of CoCa and of XLM-RoBERTa's towers hold nothing but weights."""
    model = tiny_models.save_open_clip(tmp_path / "m")
    (tmp_path / "m" / "open_clip_config.json").unlink()
    tiny_models.fill_hub_cache(tmp_path / "hub", "someone/tiny", tmp_path / "m")
    monkeypatch.setattr("thesis_rec.models.model_sources.hub_is_reachable", lambda: False)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-clip", tiny_models.CLIP)
    means = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "interpolation": "bicubic", "resize_mode": "shortest"}
    known = {("tiny-clip", "here"): {"hf_hub": "someone/tiny/", **means}}
    monkeypatch.setattr("open_clip.pretrained.get_pretrained_cfg", lambda name, tag: known.get((name, tag), {}))
    listed = ManifestRow(model_id="open_clip/tiny-clip.here", loader="open_clip", source="hf-hub:someone/tiny")
    found = load_backbone(listed, tmp_path, cache=tmp_path / "hub")
    assert found.preparation.mean == pytest.approx(means["mean"])
    assert found.preparation.std == pytest.approx(means["std"])
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(found.features(image), model.encode_image(image))
    with pytest.raises(ItemError, match="there is no open_clip_config"):
        load_backbone(listed.model_copy(update={"model_id": "mine"}), tmp_path, cache=tmp_path / "hub")


def test_what_cannot_be_built_is_named(tmp_path):
    cases = [
        (row("unheard_of"), "loader 'unheard_of' builds no network"),
        (row("local"), "loader 'local' builds no network to run"),
        (row("timm", "absent"), "doesn't exist"),
    ]
    tiny_models.save_timm(tmp_path / "m")
    (tmp_path / "broken").mkdir()
    save_file({"w": torch.ones(3)}, tmp_path / "broken" / "model.safetensors")
    save_file({"w": torch.ones(3)}, tmp_path / "file.safetensors")
    cases += [
        (row("transformers", "broken"), "there is no config.json"),
        (row("open_clip", "broken"), "there is no open_clip_config.json"),
        (row("timm", "broken"), "timm can't build the network"),
        (row("timm", "file.safetensors"), "is a file"),
        (row("transformers", "m"), "transformers can't build the network"),
    ]
    for bad, message in cases:
        with pytest.raises(ItemError, match=message) as caught:
            load_backbone(bad, tmp_path)
        assert caught.value.item == "the model"
        assert caught.value.hint


def test_malicious_weights_never_reach_a_library(tmp_path):
    tiny_models.save_timm(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    (tmp_path / "m" / "pytorch_model.bin").write_bytes(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
    with pytest.raises(ItemError, match="pickled code"):
        load_backbone(row("timm"), tmp_path)
