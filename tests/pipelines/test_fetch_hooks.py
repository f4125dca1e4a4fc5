"""A run says what it would fetch, and stops where nothing of it is allowed."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.models.model_sources import hub_answers
from thesis_rec.pipelines.fetch_hooks import FetchHooks


@pytest.fixture
def begin(tmp_path, monkeypatch):
    def run(online: bool, **changes):
        monkeypatch.setattr("thesis_rec.models.model_sources.hub_is_reachable", lambda: online)
        features = {"encoder": {"source": "hf-hub:someone/clip"}, "images_root": str(tmp_path), "fetch": False}
        parameters = {
            "params:model_extraction": {"models_root": str(tmp_path), "hub_cache": str(tmp_path), "fetch_gb": 0}
            | changes,
            "params:dataset_features": features,
        }
        manifest = pd.DataFrame(
            {"model_id": ["a"], "loader": ["timm"], "source": ["hf-hub:someone/a"], "bytes": ["2000000000"]}
        )
        nodes = [SimpleNamespace(name="extract_vectors_node")]
        FetchHooks().before_pipeline_run(SimpleNamespace(nodes=nodes), Catalog(parameters, model_manifest=manifest))

    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    hub_answers.cache_clear()
    return run


class Catalog(dict):
    load = dict.__getitem__


def test_nothing_allowed_stops_before_anything_is_fetched(begin):
    with pytest.raises(ConfigurationError, match=r"1 models \(2.0 GB, .*Nothing of it is allowed.*max_gb"):
        begin(online=True)


def test_an_allowed_or_impossible_download_goes_on(begin, caplog):
    with caplog.at_level("INFO"):
        begin(online=True, fetch_gb=1)
        begin(online=True, fetch_gb=3)
        begin(online=False)
    said = [record.getMessage() for record in caplog.records]
    assert "1 are left out" in said[0]
    assert "To be fetched: 1 models (2.0 GB" in said[1]
    assert "This machine is offline, and does without: 1 models" in said[2]
