from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.models.model_manifest import read_aliases, read_manifest, same_weights

HUB = Path(__file__).parents[2] / "data/01_raw/hub"


def test_one_checkpoint_under_the_names_of_all_its_sources():
    aliases = read_aliases(HUB / "model_aliases.csv")
    for source, name, pretrained in (
        ("mieb", "openai/clip-vit-base-patch16", ""),
        ("open_clip", "ViT-B-16", "openai"),
        ("clip_benchmark", "ViT-B-16", "openai"),
        ("timm", "vit_base_patch16_clip_224.openai", ""),
    ):
        assert aliases.get((source, name, pretrained)) == "open_clip/ViT-B-16.openai"
    assert aliases.get(("model_spider", "resnet50", "")) == "timm/resnet50.tv_in1k"
    assert aliases.get(("mieb", "google/siglip-base-patch16-256-multilingual", "")) == (
        "open_clip/ViT-B-16-SigLIP-i18n-256.webli"
    )


def test_checkpoints_of_one_name_are_told_apart_and_strangers_are_none():
    aliases = read_aliases(HUB / "model_aliases.csv")
    quick = aliases.get(("open_clip", "ViT-B-32-quickgelu", "laion400m_e32"))
    assert quick == "open_clip/ViT-B-32-quickgelu.laion400m_e32"
    # The same weights through another activation are another model, of lower accuracy.
    assert aliases.get(("open_clip", "ViT-B-32", "laion400m_e32")) is None
    assert aliases.get(("open_clip", "ViT-B-32-quickgelu", "openai")) == "open_clip/ViT-B-32.openai"
    assert aliases.get(("mieb", "royokong/e5-v", "")) is None
    assert aliases.get(("timm", "ViT-B-16", "openai")) is None


def test_models_are_told_from_the_same_weights_under_another_name():
    manifest = pd.DataFrame(
        [
            ("mine", "transformers", "hf-hub:google/siglip-base-patch16-224"),
            ("timm/b", "timm", "hf-hub:timm/vit_base_patch16_clip_224.openai"),
            ("open_clip/ViT-B-16.openai", "open_clip", "hf-hub:timm/vit_base_patch16_clip_224.openai"),
            ("local", "timm", "models/vit_base_patch16_clip_224"),
            ("local again", "timm", "models/vit_base_patch16_clip_224"),
            ("open_clip/S", "open_clip", "hf-hub:timm/ViT-B-16-SigLIP"),
            ("its repository", "open_clip", "hf-hub:timm/ViT-B-16-SigLIP"),
        ],
        columns=["model_id", "loader", "source"],
    )
    found = same_weights(manifest, read_aliases(HUB / "model_aliases.csv"))
    assert found == {
        "mine": "open_clip/ViT-B-16-SigLIP.webli",
        "timm/b": "open_clip/ViT-B-16.openai",
        "its repository": "open_clip/S",
    }


def test_every_alias_is_of_a_manifest_row():
    aliases = read_aliases(HUB / "model_aliases.csv")
    rows, failures = read_manifest(pd.read_csv(HUB / "model_manifest.csv", dtype=str))
    ids = {row.model_id for row in rows}
    assert not failures
    assert set(aliases.values()) <= ids


def test_a_name_of_two_models_is_refused(tmp_path):
    path = tmp_path / "aliases.csv"
    path.write_text("model_id,source,name,pretrained\na,timm,x,\nb,timm,x,\n")
    with pytest.raises(ConfigurationError, match="gives timm's x to a and to b"):
        read_aliases(path)
    path.write_text("model_id,source\na,timm\n")
    with pytest.raises(ConfigurationError, match="lacks the columns name, pretrained"):
        read_aliases(path)
