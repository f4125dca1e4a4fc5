"""Finding files on disk, in a hub cache, and on a hub that can't be reached."""

from __future__ import annotations

import hashlib
import json
import time
from types import SimpleNamespace

import huggingface_hub
import pandas as pd
import pytest
from huggingface_hub import errors

from tests.models import tiny_models
from tests.models.states import save_sharded, small_state
from thesis_rec.base.errors import ItemError
from thesis_rec.models import model_sources
from thesis_rec.models.checkpoint_reader import open_network
from thesis_rec.models.model_manifest import ManifestRow
from thesis_rec.models.model_sources import (
    hub_answers,
    hub_cache_folder,
    locate,
    measured_bandwidth,
)
from thesis_rec.recommendation.trying import costs_of


def hub_row(revision: str = "", loader: str = "transformers") -> ManifestRow:
    return ManifestRow(model_id="x", loader=loader, source="hf-hub:someone/something", revision=revision)


@pytest.fixture(autouse=True)
def nothing_known():
    hub_answers.cache_clear()
    yield
    hub_answers.cache_clear()


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_sources_on_disk_are_relative_to_the_root_or_absolute(tmp_path):
    (tmp_path / "zoo" / "a").mkdir(parents=True)
    for source in ("a", "local-dir:a", str(tmp_path / "zoo" / "a")):
        found = locate(ManifestRow(model_id="x", loader="timm", source=source), tmp_path / "zoo")
        assert found.samefile(tmp_path / "zoo" / "a")


@pytest.mark.parametrize("source", ["../secret", "a/../../secret", "link"])
def test_relative_sources_may_not_leave_the_root(source, tmp_path):
    (tmp_path / "zoo" / "a").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "zoo" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(ItemError, match="leads out of the zoo"):
        locate(ManifestRow(model_id="x", loader="timm", source=source), tmp_path / "zoo")


def test_files_of_a_zoo_are_those_that_it_recorded(tmp_path):
    """A byte that changed or a file that is gone is told; what isn't recorded, or lies elsewhere, isn't looked into."""
    for name in ("a/weights.bin", "a/config.json", "ab/weights.bin", "free/weights.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    names = ("a/weights.bin", "a/config.json", "ab/weights.bin")
    recorded = {"files": {name: hashlib.sha256(name.encode()).hexdigest() for name in names}}
    (tmp_path / model_sources.PROVENANCE_FILE).write_text(json.dumps(recorded))

    def found(source, **how):
        return locate(ManifestRow(model_id="x", loader="timm", source=str(source)), tmp_path, **how)

    (tmp_path / "ab/weights.bin").write_text("changed")
    (tmp_path / "free/weights.bin").write_text("changed")
    assert found("a") == tmp_path / "a"
    assert found("free") == tmp_path / "free"
    assert found(tmp_path / "ab") == found("ab", verify=False) == tmp_path / "ab"
    with pytest.raises(ItemError, match=r"ab/weights\.bin: The file's bytes differ from those recorded") as caught:
        found("ab")
    assert "git checkout" in caught.value.hint
    (tmp_path / "a/config.json").unlink()
    with pytest.raises(ItemError, match=r"a/config\.json: The file is missing from the embedded zoo"):
        found("a")


def test_a_root_that_is_a_link_itself_is_fine(tmp_path):
    (tmp_path / "scratch" / "a").mkdir(parents=True)
    (tmp_path / "zoo").symlink_to(tmp_path / "scratch")
    assert locate(ManifestRow(model_id="x", loader="timm", source="a"), tmp_path / "zoo").is_dir()


def test_the_pinned_revision_is_taken_from_the_cache(tmp_path, offline):
    torch_state = {"main": 0, "v1": 1}
    for revision, seed in torch_state.items():
        save_sharded(small_state(seed), tmp_path / revision)
        commit = str(seed) * 40
        tiny_models.fill_hub_cache(tmp_path / "hub", "someone/something", tmp_path / revision, revision, commit)
    assert locate(hub_row(), tmp_path, tmp_path / "hub").name == "0" * 40
    assert locate(hub_row("v1"), tmp_path, tmp_path / "hub").name == "1" * 40
    assert locate(hub_row("1" * 40), tmp_path, tmp_path / "hub").name == "1" * 40
    assert len(open_network(locate(hub_row(), tmp_path, tmp_path / "hub"), "x").tensors) == 11


def test_a_model_outside_the_cache_is_offline(tmp_path, offline):
    with pytest.raises(ItemError, match="offline") as caught:
        locate(hub_row(), tmp_path, tmp_path / "hub")
    assert "someone/something" in caught.value.error
    assert "cache" in caught.value.hint


def test_a_missing_shard_of_a_cached_model_is_offline_too(tmp_path, offline):
    folder = save_sharded(small_state(), tmp_path / "m")
    (folder / "model-00001-of-00003.safetensors").unlink()
    tiny_models.fill_hub_cache(tmp_path / "hub", "someone/something", folder)
    with pytest.raises(ItemError, match="offline"):
        locate(hub_row(), tmp_path, tmp_path / "hub")


def test_building_needs_the_configuration_and_not_the_preprocessor(tmp_path, offline):
    tiny_models.save_transformers(tmp_path / "m", tiny_models.tiny_vit(), preprocessing=False)
    tiny_models.fill_hub_cache(tmp_path / "hub", "someone/something", tmp_path / "m")
    assert (locate(hub_row(), tmp_path, tmp_path / "hub", build=True) / "config.json").is_file()
    (locate(hub_row(), tmp_path, tmp_path / "hub") / "config.json").unlink()
    with pytest.raises(ItemError):
        locate(hub_row(), tmp_path, tmp_path / "hub", build=True)


def test_only_the_best_format_is_downloaded(tmp_path, monkeypatch):
    asked = []

    def download(repo_id, filename, revision, cache_dir, local_files_only):
        assert not local_files_only
        asked.append((repo_id, filename, revision))
        if filename in ("pytorch_model.bin", "config.json", "open_clip_config.json"):
            (tmp_path / filename).touch()
            return str(tmp_path / filename)
        raise errors.RemoteEntryNotFoundError("absent", response=response(404))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.utils.get_session", lambda: SimpleNamespace(head=lambda url, timeout: None))
    assert locate(hub_row("v2"), tmp_path) == tmp_path
    assert [name for _, name, _ in asked][-1] == "pytorch_model.bin"
    assert {revision for *_, revision in asked} == {"v2"}
    asked.clear()
    locate(hub_row(loader="open_clip"), tmp_path, build=True)
    assert asked[0][1] == "open_clip_model.safetensors"
    assert asked[-1][1] == "open_clip_config.json"


def test_bandwidth_is_that_of_real_downloads(tmp_path, monkeypatch):
    def download(repo_id, filename, **_):
        if filename != "model.safetensors":
            raise errors.RemoteEntryNotFoundError("absent", response=response(404))
        path = tmp_path / filename
        if not path.exists():
            time.sleep(0.2)
            path.write_bytes(bytes(8 << 20))
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.utils.get_session", lambda: SimpleNamespace(head=lambda url, timeout: None))
    monkeypatch.setattr(model_sources, "_downloaded", [])
    assert measured_bandwidth() is None
    model_sources._downloaded.append((1.0, 0.5))
    assert measured_bandwidth() is None  # so little says more of waiting
    model_sources._downloaded.clear()
    locate(hub_row(), tmp_path)
    first = measured_bandwidth()
    assert 8 < first <= 40
    # What was there already isn't a download.
    time.sleep(0.02)
    locate(hub_row(), tmp_path)
    assert measured_bandwidth() == first
    table = pd.DataFrame({"model_id": ["a", "b"], "download_mb": [100.0, 0.0], "latency_ms": [1.0, 1.0]})
    costs = costs_of(table, 10)
    assert costs["a"] - costs["b"] == pytest.approx(100 / first)


def test_without_network_the_cache_is_used_at_once(tmp_path, monkeypatch, caplog):
    asked = []

    def head(url, timeout):
        asked.append(url)
        raise ConnectTimeout("no route")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.utils.get_session", lambda: SimpleNamespace(head=head))
    for _ in range(3):
        with pytest.raises(ItemError, match="offline"):
            locate(hub_row(), tmp_path, tmp_path / "hub")
    assert len(asked) == 1
    assert "no route" in caplog.text
    tiny_models.fill_hub_cache(tmp_path / "hub", "someone/something", save_sharded(small_state(), tmp_path / "m"))
    assert locate(hub_row(), tmp_path, tmp_path / "hub").name == "a" * 40


def test_a_network_that_goes_away_is_asked_for_again(tmp_path, monkeypatch):
    asked = []
    session = SimpleNamespace(head=lambda url, timeout: asked.append(url))

    def download(*arguments, **named):
        raise errors.LocalEntryNotFoundError("connection lost")

    monkeypatch.setattr("huggingface_hub.utils.get_session", lambda: session)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    for expected in (1, 2):
        with pytest.raises(ItemError, match="offline"):
            locate(hub_row(), tmp_path)
        assert len(asked) == expected


def response(status: int) -> SimpleNamespace:
    return SimpleNamespace(status_code=status, headers={}, request=None)


class ConnectTimeout(Exception):
    """What HTTP libraries call it; which one the hub library uses changes from version to version."""


@pytest.mark.parametrize(
    ("error", "message", "remedy"),
    [
        (errors.GatedRepoError("no", response=response(403)), "gated", "HF_TOKEN"),
        (errors.RepositoryNotFoundError("no", response=response(404)), "isn't on the hub, or is private", "source"),
        (errors.RevisionNotFoundError("no", response=response(404)), "at revision v9", "revision"),
        (errors.RemoteEntryNotFoundError("no", response=response(404)), "no weights", "another"),
        (errors.LocalEntryNotFoundError("no"), "offline", "cache"),
        (errors.OfflineModeIsEnabled("no"), "offline", "cache"),
        (errors.HfHubHTTPError("server", response=response(500)), "failed", "later"),
        (errors.HFValidationError("no"), "no name of the hub's", "owner/name"),
        (ConnectTimeout("refused"), "offline", "internet"),
        (OSError("disk full"), "disk full", "later"),
        (RuntimeError("odd"), "odd", "later"),
    ],
)
def test_every_failure_of_a_download_is_explained(error, message, remedy, tmp_path, monkeypatch):
    monkeypatch.setattr(model_sources, "hub_is_reachable", lambda: True)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *a, **k: (_ for _ in ()).throw(error))
    with pytest.raises(ItemError) as caught:
        locate(hub_row("v9"), tmp_path)
    assert caught.value.item == "x"
    assert message in caught.value.error
    assert remedy in caught.value.hint


def test_the_cache_lies_where_the_hub_library_keeps_it(monkeypatch, tmp_path):
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    assert hub_cache_folder(tmp_path) == tmp_path / "hub"
    assert hub_cache_folder("~/x").is_absolute()
    assert hub_cache_folder(None) is None
    monkeypatch.setenv("HF_HUB_CACHE", "/elsewhere")
    assert hub_cache_folder(tmp_path) is None


def test_environment_variables_in_a_source(tmp_path, monkeypatch):
    (tmp_path / "m.pth").touch()
    monkeypatch.setenv("WEIGHTS", str(tmp_path))
    for source in ("$WEIGHTS/m.pth", "${WEIGHTS}/m.pth"):
        row = ManifestRow(model_id="x", loader="local", source=source)
        assert locate(row, tmp_path / "elsewhere") == tmp_path / "m.pth"
    monkeypatch.delenv("WEIGHTS")
    with pytest.raises(ItemError, match="environment variable WEIGHTS, which isn't set") as caught:
        locate(row, tmp_path)
    assert "export WEIGHTS" in caught.value.hint
