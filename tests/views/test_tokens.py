"""Tokens of datasets and sub-tasks, read from shards."""

import numpy as np
import pytest
from PIL import Image

from tests.images.encoders.tiny import colour_encoder, write_colour_folder
from tests.views.small_tokens import Kept, row, run, tokens_of
from thesis_rec.base.errors import ItemError
from thesis_rec.images.loading import open_dataset
from thesis_rec.views.tokens import TokenSettings, check_one_encoder, load_task_tokens, tokens_of_images


def test_incomplete_or_mixed_shards_are_left_out_and_old_ones_ignored(folder):
    shards, _ = run([row()], folder)
    assert tokens_of({k: s for k, s in shards.items() if not k.endswith("0")}, [row()]) == {}
    other, _ = run([row()], folder, TokenSettings(batches=5, images_per_shard=6, seed=1))
    assert tokens_of(shards | {"d/train/00001": other["d/train/00001"]}, [row()]) == {}
    assert len(tokens_of(shards | {"d/train/00003": other["d/train/00002"]}, [row()])["d"].features) == 5


def test_tokens_of_two_encoders_are_refused_with_the_odd_one_named(folder):
    for name in ("e", "f"):
        write_colour_folder(folder / name)
    rows = [row(), row("e"), row("f")]
    shards, _ = run(rows, folder)
    check_one_encoder(tokens_of(shards, rows))
    check_one_encoder({})
    for key in (key for key in shards if key.startswith("e/")):
        shards[key] = Kept(shards[key] | {"encoder_id": np.array("another")})
    with pytest.raises(ItemError, match=r"e: its tokens were made by another, those of 2 others by \w+"):
        check_one_encoder(tokens_of(shards, rows))


def test_a_damaged_shard_leaves_out_its_dataset_alone(folder):
    write_colour_folder(folder / "e")
    shards, _ = run([row(), row("e")], folder)

    def damaged():
        raise OSError("e/train/00001.npz is cut off")

    found, told = load_task_tokens(shards | {"e/train/00001": damaged}, [row(), row("e")])
    assert [*found] == ["d"]
    assert [(one.item, one.error) for one in told] == [("e", "e/train/00001.npz is cut off.")]


class TestNearCopies:
    """Images that are encoded as they are read, never all in memory, are compared too."""

    @pytest.fixture
    def scenes(self, tmp_path):
        """Patterns under two labels; the first three test images are those for training, saved anew and darker."""
        rng = np.random.default_rng(0)
        for split in ("train", "test"):
            for i in range(24):
                pixels = rng.integers(40, 216, (6, 6, 3)).repeat(8, axis=0).repeat(8, axis=1)
                path = tmp_path / "d" / split / "ab"[i % 2] / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                if split == "test" and i < 3:
                    copied = np.asarray(Image.open(tmp_path / "d/train" / "ab"[i % 2] / f"{i}.png")) - 1
                    Image.fromarray(copied).save(path.with_suffix(".jpg"), quality=95)
                else:
                    Image.fromarray(pixels.astype(np.uint8)).save(path)
        return tmp_path

    def notes(self, folder, workers=0):
        dataset, settings = open_dataset(row(splits=""), folder), TokenSettings(workers=workers)
        _, told = tokens_of_images(colour_encoder(32), dataset.split("train"), settings, dataset.apart())
        return [note.error for note in told]

    @pytest.mark.parametrize("workers", [0, 1])
    def test_between_train_and_test(self, scenes, workers):
        (note,) = self.notes(scenes, workers)
        assert note.startswith("3 of 24 test images looked at are copies or near copies of training images")

    def test_nothing_is_told_where_there_are_none(self, scenes):
        for path in (scenes / "d/test").rglob("*.jpg"):
            path.unlink()
        assert self.notes(scenes) == []

    def test_under_two_labels(self, scenes):
        for path in (scenes / "d/test").rglob("*.jpg"):
            path.unlink()
        Image.open(scenes / "d/train/a/0.png").save(scenes / "d/train/b/again.jpg", quality=95)
        assert any(
            "2 of 25 training images looked at have a near copy under another label" in n for n in self.notes(scenes)
        )

    def test_stored_shards_tell_it(self, scenes):
        _, outcomes = run([row(splits="")], scenes, encoder=lambda: colour_encoder(32))
        assert [error for error, _ in outcomes["d"]["notes"]] == self.notes(scenes)
