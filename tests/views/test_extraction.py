"""What shards hold, replacement of unreadable images, resumption, and bounded failures."""

import numpy as np
import pytest

from tests.images.encoders.tiny import colour_encoder, write_colour_folder
from tests.images.opening import open_split
from tests.views.small_tokens import SETTINGS, row, run, tokens_of
from thesis_rec.base.errors import ConfigurationError, ItemError
from thesis_rec.base.settings import evenly
from thesis_rec.catalog.validators import validate_token_shard
from thesis_rec.images.manifest import DatasetRow
from thesis_rec.views import tokens
from thesis_rec.views.tokens import TokenSettings, tokens_of_images


def test_shards_hold_the_features_of_one_image_per_class(folder):
    shards, outcomes = run([row()], folder)
    assert list(shards) == ["d/train/00000", "d/train/00001", "d/train/00002"]
    for shard in shards.values():
        validate_token_shard(shard)
    assert outcomes["d"]["notes"] == []
    assert outcomes["d"]["error"] == outcomes["d"]["hint"] == ""
    assert outcomes["d"]["results"] == list(shards)
    tokens = tokens_of(shards, [row()])["d"]
    assert tokens.features.shape == (5, 3, 4)
    assert tokens.class_names == ["blue", "green", "red"]
    assert tokens.n_images == 12
    assert tokens.features[
        ...,
        [2, 1, 0],
    ].argmax(-1).shape == (5, 3)
    assert (tokens.features[:, :, :3].argmax(-1) == [2, 1, 0]).all()
    np.testing.assert_allclose(np.linalg.norm(tokens.features, axis=-1), 1, atol=1e-6)


def test_shards_do_not_depend_on_how_they_are_cut_nor_on_workers(folder):
    whole = tokens_of(run([row()], folder, TokenSettings(batches=5))[0], [row()])["d"]
    cut = tokens_of(run([row()], folder)[0], [row()])["d"]
    assert np.array_equal(whole.features, cut.features)
    images = open_split(row(), "train", folder)
    with_workers, _ = tokens_of_images(colour_encoder(), images, TokenSettings(batches=5, workers=1))
    np.testing.assert_allclose(with_workers.features, whole.features, atol=1e-3)


def test_finished_shards_are_kept_and_missing_ones_made(folder):
    shards, _ = run([row()], folder)

    encoder = colour_encoder()
    encoder.encode = None  # nothing is left to encode
    again, outcomes = run([row()], folder, existing=shards, encoder=lambda: encoder)
    assert again == {}
    assert outcomes["d"]["error"] == ""
    part = {key: (lambda s=shard: s) for key, shard in shards.items() if not key.endswith("1")}
    again, _ = run([row()], folder, existing=part)
    assert list(again) == ["d/train/00001"]
    assert np.array_equal(again["d/train/00001"]["features"], shards["d/train/00001"]["features"])


@pytest.mark.parametrize("change", ["settings", "files", "encoder", "damage"])
def test_what_was_made_otherwise_is_made_again(folder, change):
    shards, _ = run([row()], folder)
    settings, encoder_id = SETTINGS, "colour"
    if change == "settings":
        settings = TokenSettings(batches=5, images_per_shard=6, seed=1)
    elif change == "encoder":
        encoder_id = "other"
    elif change == "files":
        (folder / "d/red/red_0.png").unlink()
    else:
        shards = dict.fromkeys(shards, lambda: (_ for _ in ()).throw(ValueError("truncated")))
    again, _ = run([row()], folder, settings, shards, encoder_id=encoder_id)
    assert len(again) == 3


def test_batch_size_and_workers_change_nothing(folder):
    quick = TokenSettings(batches=5, images_per_shard=6, batch_size=1, workers=3)
    assert quick.hash_for(row(), "train", folder, "colour") == SETTINGS.hash_for(row(), "train", folder, "colour")


def test_tokens_of_earlier_versions_are_not_made_again(tmp_path):
    """Where how tokens are made changes on purpose, LANDMARKS_VERSION or READING_VERSION does, and these with it."""
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(name.encode())
    drawn = DatasetRow(dataset_id="d", loader="generated", source="digits_bold")
    files = DatasetRow(dataset_id="d", loader="folder", source=".", splits="train:0.5;test:0.5", label_map="a=c")
    hashes = [TokenSettings().hash_for(one, "train", tmp_path, "enc")[:16] for one in (drawn, files)]
    assert hashes == ["8310ff76a416c077", "7cd3582c181c8dc0"]


def test_unreadable_images_are_replaced_and_reported_also_after_resumption(folder):
    (folder / "d/red/red_0.png").write_bytes(b"broken")
    shards, outcomes = run([row()], folder)
    notes = outcomes["d"]["notes"]
    assert 1 <= len(notes) <= 2
    assert all("red/red_0.png" in error for error, _ in notes)
    tokens = tokens_of(shards, [row()])["d"]
    assert (tokens.features[:, :, :3].argmax(-1) == [2, 1, 0]).all()
    last = {"d/train/00002": shards.pop("d/train/00002")}
    _, resumed = run([row()], folder, existing=shards)
    assert sorted(resumed["d"]["notes"]) == sorted(notes)
    _, finished = run([row()], folder, existing=shards | last)
    assert finished == outcomes


def test_a_class_without_readable_images_fails_its_dataset_only(folder):
    write_colour_folder(folder / "good")
    for file in (folder / "d/red").iterdir():
        file.write_bytes(b"broken")
    shards, outcomes = run([row(), row("absent"), row("good")], folder)
    error = outcomes["d"]["error"]
    assert error.startswith("class 'red' has no image that can be read; skipped red/")
    assert error.endswith("not an image of a known format.")
    assert "doesn't exist" in outcomes["absent"]["error"]
    assert all(outcomes[name]["hint"] for name in ("d", "absent"))
    assert outcomes["good"]["error"] == ""
    assert {key.split("/")[0] for key in shards} == {"good"}


def test_an_unexpected_exception_fails_its_dataset_only(folder, monkeypatch):
    monkeypatch.setattr(tokens, "open_dataset", lambda *a: 1 / 0)
    _, outcomes = run([row()], folder)
    assert "ZeroDivisionError" in outcomes["d"]["error"]


def test_without_an_encoder_the_step_stops(folder):
    def absent():
        raise ItemError("clip", "absent.", "make it")

    with pytest.raises(ConfigurationError, match=r"No dataset can be encoded\. clip: absent\. make it"):
        run([row()], folder, encoder=absent)


def test_an_empty_class_is_left_out_and_keeps_the_others_ids(folder):
    (folder / "d/azure").mkdir()
    shards, outcomes = run([row()], folder)
    assert "'azure'" in outcomes["d"]["notes"][0][0]
    assert shards["d/train/00000"]["class_ids"].tolist() == [1, 2, 3]
    assert tokens_of(shards, [row()])["d"].class_names == ["blue", "green", "red"]


def test_shard_files_survive_the_catalog(folder, tmp_path):
    from thesis_rec.catalog import KeyedPartitionDataset

    (folder / "d/red/red_0.png").write_bytes(b"broken")
    dataset = KeyedPartitionDataset(path=tmp_path / "tokens", depth=3)
    shards, outcomes = run([row()], folder)
    dataset.save(shards)
    again, same = run([row()], folder, existing=dataset.load())
    assert again == {}
    assert same == outcomes


def test_spread_over_the_manifest():
    rows = [row(f"d{i}") for i in range(10)]
    assert [r.dataset_id for r in evenly(rows, 4)] == ["d0", "d3", "d6", "d9"]
    assert evenly(rows, None) == evenly(rows, 99) == rows
