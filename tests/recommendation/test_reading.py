"""What an answer says of the images it was asked about."""

import shutil

import datasets
import numpy as np
import pytest
from PIL import Image

from tests.images.encoders.tiny import save_open_clip
from thesis_rec.base.errors import ItemError
from thesis_rec.recommendation.request import Request, read_images


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(value).integers(0, 30, (9, 9, 3))
    Image.fromarray((noise + value).astype(np.uint8)).save(path)


def test_classes_splits_and_unread_files_come_first(tmp_path):
    for split, count in (("Training", 4), ("Testing", 2), ("val", 1)):
        for name in ("cat", "dog"):
            for i in range(count):
                write(tmp_path / "d" / split / name / f"{i}.png", 40 + 10 * i + 3 * count + (name == "dog"))
    (tmp_path / "d/Training/cat/0.png").write_bytes((tmp_path / "d/Training/cat/0.png").read_bytes()[:100])
    (tmp_path / "d/Training/dog/phone.heic").write_bytes(b"x")
    # Left out, and no class of the answer's.
    (tmp_path / "d/Training/bird").mkdir()
    asked = read_images(tmp_path / "d", None, Request())
    assert asked.n_images == 14
    assert asked.read_as[0] == "read as 2 classes (cat, dog); images: Testing 4, Training 8, val 2."
    told = " ".join(asked.read_as)
    assert "14 of 15 files can be images; not read: 1 .heic files" in told
    assert "1 images couldn't be read" in told
    assert "cut off" in told
    assert "classes without an image in the split 'train' are left out: 'bird'." in " ".join(asked.notes)
    assert set(asked.read_as) < set(asked.notes)
    assert any("few images" in note for note in asked.notes)


def test_all_files_that_are_cut_off_or_no_images_are_counted_not_only_those_looked_at(tmp_path):
    for i in range(80):
        write(tmp_path / "d" / "ab"[i % 2] / f"{i:02}.png", 2 * i)
    for name in ("a/00", "a/40", "b/41", "b/79"):
        path = tmp_path / "d" / f"{name}.png"
        path.write_bytes(path.read_bytes()[:100])
    photo = Image.open(tmp_path / "d/a/02.png")
    photo.save(tmp_path / "d/a/cut.jpg")
    (tmp_path / "d/a/cut.jpg").write_bytes((tmp_path / "d/a/cut.jpg").read_bytes()[:-100])
    # What follows a picture's end doesn't harm it.
    photo.save(tmp_path / "d/a/long.jpg")
    (tmp_path / "d/a/long.jpg").write_bytes((tmp_path / "d/a/long.jpg").read_bytes() + b"x" * 9000)
    (tmp_path / "d/b/drawing.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0")
    told = " ".join(read_images(tmp_path / "d", None, Request()).read_as)
    assert "6 images couldn't be read; 5: the image can't be read (it is cut off) (a/00.png); 1: the" in told


def test_classes_that_nothing_tests_are_told_although_nothing_is_tried(tmp_path):
    for name, count in (("a", 3), ("b", 3), ("c", 0)):
        for i in range(12):
            write(tmp_path / "d" / "train" / name / f"{i}.png", 9 * i + count)
        for i in range(count):
            write(tmp_path / "d" / "test" / name / f"{i}.png", 100 + i + count)
    told = read_images(tmp_path / "d", None, Request()).notes
    assert sum("classes without an image in the split 'test' are not tested: 'c'." in note for note in told) == 1
    shutil.rmtree(tmp_path / "d/test/b")
    told = " ".join(read_images(tmp_path / "d", None, Request()).notes)
    assert "classes without an image in the split 'test' are not tested: 'b', 'c'." in told


@pytest.mark.parametrize("name", ["é" * 60, "two\nlines"])
def test_a_folder_may_have_any_name(tmp_path, name):
    for i in range(8):
        write(tmp_path / name / "ab"[i % 2] / f"{i}.png", 20 * i)
    assert read_images(tmp_path / name, None, Request()).n_images == 8


def test_a_flat_folder_with_a_table_of_labels(tmp_path):
    for i in range(8):
        write(tmp_path / "d" / f"{i}.png", 20 * i)
    table = tmp_path / "labels.csv"
    table.write_text("file_name,label\n" + "".join(f"{i}.png,{'cat' if i % 2 else 'dog'}\n" for i in range(8)))
    asked = read_images(tmp_path / "d", None, Request(labels=str(table)))
    assert asked.tokens.class_names == ["cat", "dog"]
    with pytest.raises(ItemError, match="no class folders"):
        read_images(tmp_path / "d", None, Request())
    np.savez(tmp_path / "d.npz", images=np.zeros((4, 5, 5), np.uint8), labels=np.arange(4) % 2)
    with pytest.raises(ItemError, match="labels of its own"):
        read_images(tmp_path / "d.npz", None, Request(labels=str(table)))


def test_a_folder_s_name_changes_nothing_and_landmarks_go_from_train_to_test(tmp_path):
    save_open_clip(tmp_path / "clip")
    encoder = {"kind": "open_clip", "source": str(tmp_path / "clip")}
    for i in range(24):
        write(tmp_path / "d" / "ab"[i % 2] / f"{i}.png", 8 * i + 40 * (i % 2))
    shutil.copytree(tmp_path / "d", tmp_path / "other name")
    one, other = (read_images(tmp_path / name, encoder, Request()).tokens for name in ("d", "other name"))
    np.testing.assert_array_equal(one.features, other.features)
    np.testing.assert_array_equal(one.landmarks, other.landmarks)
    # Classes that are told apart by brightness, and the other way round in the images for testing.
    for split, turned in (("train", 0), ("test", 1)):
        for i in range(20):
            write(tmp_path / "s" / split / "ab"[(i + turned) % 2] / f"{i}.png", 20 + 150 * (i % 2) + i)
    assert np.nanmean(read_images(tmp_path / "s", encoder, Request()).tokens.landmarks) < -0.5


@pytest.mark.parametrize(
    ("names", "told"),
    [(("0", "17"), True), (("class_1", "class_2"), True), (("n01440764", "7"), True), (("cat", "7"), False)],
)
def test_numbered_classes_tell_zero_shot_nothing(tmp_path, names, told):
    for name in names:
        for i in range(4):
            write(tmp_path / "d" / name / f"{i}.png", 20 * i + len(name))
    notes = read_images(tmp_path / "d", None, Request(protocol="zero_shot")).notes
    assert any("give them names" in note for note in notes) == told
    assert not any("give them names" in note for note in read_images(tmp_path / "d", None, Request()).notes)


@pytest.mark.parametrize("saved", ["whole", "one split", "hub", "parquet"])
def test_a_folder_of_the_library_datasets_is_read_by_it(tmp_path, monkeypatch, saved):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["cat", "dog"])})
    pictures = [Image.fromarray(np.full((9, 9, 3), 10 * i, np.uint8)) for i in range(12)]
    train = datasets.Dataset.from_dict({"picture": pictures, "kind": [i % 2 for i in range(12)]}, features=features)
    folder = tmp_path / "pets"
    if saved == "whole":
        datasets.DatasetDict({"train": train, "test": train.select(range(4))}).save_to_disk(folder)
    elif saved == "one split":
        train.save_to_disk(folder)
    else:
        inside = folder / "data" if saved == "hub" else folder
        inside.mkdir(parents=True)
        (folder / ".git").mkdir()
        train.to_parquet(inside / "train-00000-of-00001.parquet")
        train.select(range(4)).to_parquet(inside / "test-00000-of-00001.parquet")
    asked = read_images(folder, None, Request())
    counts = "train 12." if saved == "one split" else "train 12, test 4."
    assert sorted(asked.read_as[0].split(": ")[-1].rstrip(".").split(", ")) == sorted(counts.rstrip(".").split(", "))
    assert asked.tokens.class_names == ["cat", "dog"]
    assert asked.row.dataset_id == "pets"
    assert len(asked.content) == 64
    with pytest.raises(ItemError, match=r"a saved dataset has labels of its own\. Leave out --labels"):
        read_images(folder, None, Request(labels="labels.csv"))


def test_parquet_files_beside_folders_of_images_are_not_what_is_read(tmp_path):
    for name in ("cat", "dog"):
        for i in range(3):
            write(tmp_path / "d" / name / f"{i}.png", 40 * i + (name == "dog"))
    (tmp_path / "d/metadata.parquet").write_bytes(b"PAR1")
    assert read_images(tmp_path / "d", None, Request()).read_as[0].startswith("read as 2 classes (cat, dog)")
