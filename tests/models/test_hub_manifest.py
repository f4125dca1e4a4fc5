"""The committed hub manifest says nothing that the libraries' registries don't."""

from __future__ import annotations

import pandas as pd
import pytest

from thesis_rec.models.loaders import LOADERS
from thesis_rec.models.model_extraction import EXTRACTORS, extractor_name
from thesis_rec.models.model_manifest import ManifestRow, read_manifest


@pytest.fixture(scope="module")
def rows(project_dir) -> list[ManifestRow]:
    table = pd.read_csv(project_dir / "data/01_raw/hub/model_manifest.csv", dtype=str, keep_default_na=False)
    rows, failures = read_manifest(table)
    assert failures == []
    return rows


def test_there_are_many_models_of_every_kind(rows):
    assert len(rows) >= 120
    assert {row.loader for row in rows} >= {"timm", "transformers", "open_clip", "detector_pack"}
    assert {extractor_name(row) for row in rows} >= {"timm", "huggingface", "siglip", "open_clip", "detector_pack"}
    assert {row.family for row in rows} >= {"vit", "swin", "convnext", "dinov2", "siglip", "resnet", "mobilenetv3"}
    assert {"cifar10", "svhn", "mnist"} <= {row.pretraining for row in rows}


def test_every_row_can_be_handled_and_says_where_it_was_looked_up(rows):
    for row in rows:
        assert row.hub_id is not None
        assert row.hub_id.count("/") == 1, row
        assert row.loader in {*LOADERS, "local"}
        assert extractor_name(row) in EXTRACTORS
        assert row.model_extra["reference"], row
        assert row.family != "unknown"
        assert row.licence


def test_timm_rows_are_its_registry(rows):
    from timm.models import get_pretrained_cfg

    for row in (row for row in rows if row.loader == "timm"):
        config = get_pretrained_cfg(row.model_id.removeprefix("timm/"))
        if config is None:
            # A network of timm's that somebody else trained: nothing is known of its licence.
            assert row.licence == "unknown"
            continue
        assert row.hub_id == config.hf_hub_id
        assert row.licence == (config.license or "unknown")


def test_open_clip_rows_are_its_registry(rows):
    from open_clip.pretrained import get_pretrained_cfg

    for row in (row for row in rows if row.loader == "open_clip"):
        architecture, tag = row.model_id.removeprefix("open_clip/").rsplit(".", 1)
        assert get_pretrained_cfg(architecture, tag)["hf_hub"].rstrip("/") == row.hub_id


def test_transformers_rows_are_of_types_that_it_builds(rows):
    """transformers dropped VAN: a line that loads such a model would fail."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    families = {row.family for row in rows if row.loader == "transformers"}
    assert families <= CONFIG_MAPPING_NAMES.keys() & MODEL_MAPPING_NAMES.keys()


def test_the_download_of_an_image_text_model_holds_its_text_half(rows):
    for row in rows:
        told = row.model_extra
        assert ("bytes" in told) == ("parameters" in told), row
        if row.loader == "open_clip" or row.family in ("align", "blip", "siglip"):
            # The smallest text half, MobileCLIP's, has 42 million weights.
            assert int(told["bytes"]) > 4 * (int(told["parameters"]) + 40e6), row


def test_licences_outside_the_registries_are_cited_or_those_of_a_twin(rows, project_dir):
    aliases = pd.read_csv(project_dir / "data/01_raw/hub/model_aliases.csv", dtype=str)
    of_timm = set(aliases.loc[aliases["source"] == "timm", "model_id"])
    twins = of_timm | set(aliases.loc[aliases["model_id"].isin(of_timm), "name"])
    for row in rows:
        if row.loader != "timm" and row.licence != "unknown" and row.model_id not in twins:
            reference = row.model_extra["reference"]
            cited = f"https://huggingface.co/{row.hub_id}"
            assert cited in reference or reference.startswith(("open_clip ", "timm ")), row


def test_models_of_the_benchmark_are_named_as_it_names_them(rows, shared_dir):
    named = set(pd.read_csv(shared_dir / "benchmarks/transfergraph/models.csv")["model_id"])
    ours = {row.model_id for row in rows if row.model_extra["reference"].startswith("TransferGraph model zoo")}
    assert ours <= named
    assert len(ours) > 50
