"""Loaders: folders, NPZ files, generated tasks, hub datasets on disk; splits, labels, caps and every bad input."""

import io
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.images.encoders.tiny import write_colour_folder
from tests.images.opening import open_split
from thesis_rec.base.errors import ItemError
from thesis_rec.images.dataset_source import LOADERS, ImageLimits, RawSplit, Source, register_loader
from thesis_rec.images.decoding import decode_image, resize_image
from thesis_rec.images.hub import holds_tables
from thesis_rec.images.loading import load_task_images, open_dataset
from thesis_rec.images.loading import split_fingerprint as fingerprint
from thesis_rec.images.manifest import DatasetRow


def row(loader="folder", source="d", **fields):
    return DatasetRow.model_validate({"dataset_id": "d", "loader": loader, "source": source} | fields)


def write_npz(path, n=12, classes=3, **changes):
    rng = np.random.default_rng(0)
    content = {}
    for split, count in (("train", n), ("test", n // 2)):
        content[f"{split}_images"] = rng.integers(0, 255, (count, 8, 8, 3)).astype(np.uint8)
        content[f"{split}_labels"] = np.arange(count) % classes
    content["class_names"] = np.array([f"c{i}" for i in range(classes)])
    content |= changes
    np.savez_compressed(path, **{name: value for name, value in content.items() if value is not None})


class TestFolder:
    def test_a_square_of_a_photograph_is_decoded_at_its_own_scale(self, tmp_path):
        for place, name in enumerate(("a", "b")):
            (tmp_path / "d" / name).mkdir(parents=True)
            pixels = np.random.default_rng(place).integers(0, 256, (640, 640, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "d" / name / "1.jpg")
        images = open_split(row(splits="train=all"), "train", tmp_path)
        path = tmp_path / "d" / "a" / "1.jpg"
        assert images.image(0).shape == (640, 640, 3)
        np.testing.assert_array_equal(images.square(0, 20), resize_image(decode_image(path, size=20), 20))
        assert (images.square(0, 20) != resize_image(decode_image(path), 20)).any()

    def test_class_folders_without_splits_are_divided_without_overlap(self, tmp_path):
        write_colour_folder(tmp_path / "d", per_class=8)
        train, test = (open_split(row(), split, tmp_path) for split in ("train", "test"))
        assert train.class_names == test.class_names == ["blue", "green", "red"]
        assert np.bincount(train.labels).tolist() == [6, 6, 6]
        assert np.bincount(test.labels).tolist() == [2, 2, 2]
        assert not set(train.positions) & set(test.positions)
        assert train.image(0).shape == (10, 10, 3)
        assert train.image(0)[..., 2].mean() > 200
        again = open_split(row(), "train", tmp_path)
        assert np.array_equal(again.positions, train.positions)
        other = open_split(row(), "train", tmp_path, ImageLimits(seed=1))
        assert not np.array_equal(other.positions, train.positions)

    def test_of_wide_images_the_middle_is_seen(self, tmp_path):
        picture = np.full((10, 30, 3), 200, np.uint8)
        picture[:, :10] = 90
        for name in ("a", "b"):
            (tmp_path / "d" / name).mkdir(parents=True)
            Image.fromarray(picture).save(tmp_path / "d" / name / "1.png")
        image = open_split(row(splits="train=all"), "train", tmp_path).square(0, 10)
        assert image.shape == (10, 10, 3)
        assert (image == 200).all()

    def test_explicit_bare_rules_are_divided_too(self, tmp_path):
        write_colour_folder(tmp_path / "d", per_class=4)
        parts = [open_split(row(splits="train;test"), split, tmp_path) for split in ("train", "test")]
        assert [len(part) for part in parts] == [9, 3]
        assert not set(parts[0].positions) & set(parts[1].positions)
        assert len(open_split(row(splits="train=all"), "train", tmp_path)) == 12

    def test_split_folders_and_validation_as_test(self, tmp_path):
        write_colour_folder(tmp_path / "d", per_class=2, splits=("train", "val"))
        tasks = load_task_images(row(), tmp_path)
        assert tasks.train_images.shape == (6, 10, 10, 3)
        assert tasks.test_images.shape == (6, 10, 10, 3)
        assert tasks.class_names == ["blue", "green", "red"]
        with pytest.raises(ItemError, match="no split 'nope'; there are train, val"):
            open_split(row(splits="test=nope"), "test", tmp_path)
        with pytest.raises(ItemError, match="has no split 'test'"):
            open_split(row(splits="train"), "test", tmp_path)

    def test_shares_and_caps(self, tmp_path):
        write_colour_folder(tmp_path / "d", per_class=10)
        rules = "pretrain=all:0.2;train=all:0.5;test=all:0.3@6"
        parts = {s: open_split(row(splits=rules), s, tmp_path) for s in ("pretrain", "train", "test")}
        assert [len(part) for part in parts.values()] == [6, 15, 6]
        everything = np.concatenate([part.positions for part in parts.values()])
        assert len(set(everything)) == len(everything)
        few = open_split(row(), "train", tmp_path, ImageLimits(n_per_class=2))
        assert np.bincount(few.labels).tolist() == [2, 2, 2]

    @pytest.mark.parametrize("rules", ["train=all;test=all:0.3", "train=all@6;test=all@3", "test=all;train=all:0.5"])
    @pytest.mark.parametrize("split", ["train", "test"])
    def test_images_for_training_are_no_images_for_testing(self, tmp_path, rules, split):
        write_colour_folder(tmp_path / "d", per_class=10)
        with pytest.raises(ItemError, match="take images of its split 'all', some of them the same"):
            open_split(row(splits=rules), split, tmp_path)

    def test_a_source_s_split_is_divided_by_whatever_name_it_is_called(self, tmp_path):
        write_colour_folder(tmp_path / "d" / "Training", per_class=10)
        write_colour_folder(tmp_path / "d" / "val", per_class=1)
        parts = [open_split(row(splits="train:0.5;test=Training:0.5"), name, tmp_path) for name in ("train", "test")]
        assert [len(part) for part in parts] == [15, 15]
        assert not set(parts[0].positions) & set(parts[1].positions)

    def test_labels_from_file_names(self, tmp_path):
        (tmp_path / "d").mkdir()
        for name in ("cat_1.png", "cat_2.png", "dog_1.png", "dog_2.jpg", "README.png"):
            Image.new("L", (4, 4)).save(tmp_path / "d" / name)
        images = open_split(row(label_column=r"filename:^([a-z]+)_", splits="train=all"), "train", tmp_path)
        assert images.class_names == ["cat", "dog"]
        assert len(images) == 4
        for pattern, message in (
            ("filename:(", "regular expression"),
            ("filename:x", "no group"),
            ("filename:(zz)", "no images.* 5 files in whose names '\\(zz\\)' finds no label"),
        ):
            with pytest.raises(ItemError, match=message):
                open_split(row(label_column=pattern), "train", tmp_path)

    def test_labels_from_a_table(self, tmp_path):
        write_colour_folder(tmp_path / "d", per_class=1)
        table = tmp_path / "d" / "metadata.csv"
        with pytest.raises(ItemError, match=r"no table metadata.csv"):
            open_split(row(label_column="dx"), "train", tmp_path)
        table.write_text("file_name,dx\nred/red_0.png,warm\nblue/blue_0.png,cold\ngreen/green_0.png,\n../x.png,cold\n")
        images = open_split(row(label_column="dx", splits="train=all"), "train", tmp_path)
        assert images.class_names == ["cold", "warm"]
        assert len(images) == 2
        assert any("1 files of the table that don't exist" in note.error for note in images.warnings)
        (tmp_path / "x.png").write_bytes((tmp_path / "d/red/red_0.png").read_bytes())
        images = open_split(row(label_column="dx", splits="train=all"), "train", tmp_path)
        assert len(images) == 2
        assert any("1 files of the table that lead outside" in note.error for note in images.warnings)
        with pytest.raises(ItemError, match="no column 'nope'"):
            open_split(row(label_column="nope"), "train", tmp_path)

    def test_of_one_folder_of_images_a_table_beside_it_is_proposed(self, tmp_path):
        (tmp_path / "d" / "images").mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "d" / "images" / "1.png")
        with pytest.raises(ItemError, match=r"one class only, 'images'\. Give at least two classes"):
            open_split(row(splits="train=all"), "train", tmp_path)
        (tmp_path / "d" / "train.csv").write_text("id,label\n1,x\n")
        with pytest.raises(ItemError, match=r"one class only, 'images'\..*\(--labels train\.csv\)"):
            open_split(row(splits="train=all"), "train", tmp_path)

    def test_a_table_may_name_files_without_their_folder_as_long_as_one_has_the_name(self, tmp_path):
        for place in ("a/one.png", "a/two.png", "b/three.png", "a/same.png", "b/same.png"):
            (tmp_path / "d" / "pictures" / place).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (len(place), 0, 0)).save(tmp_path / "d" / "pictures" / place)
        table = tmp_path / "d" / "labels.csv"
        table.write_text("id,label\none,x\ntwo.png,y\npictures/b/three,y\nsame,x\nnowhere,x\n")
        images = open_split(row(labels="labels.csv", splits="train=all"), "train", tmp_path)
        assert images.labels.tolist() == [0, 1, 1]
        told = " ".join(note.error for note in images.warnings)
        assert "1 names of the table that several files have" in told
        assert "1 files of the table that don't exist" in told
        table.write_text("id,label\none,x\npictures/a/same.png,y\npictures/b/same,x\n")
        assert len(open_split(row(labels="labels.csv", splits="train=all"), "train", tmp_path)) == 3

    def test_label_map_joins_renames_and_drops(self, tmp_path):
        write_colour_folder(tmp_path / "d", per_class=4)
        joined = row(label_map="red=warm;green=cold;blue=cold", splits="train=all")
        images = open_split(joined, "train", tmp_path)
        assert images.class_names == ["cold", "warm"]
        assert np.bincount(images.labels).tolist() == [8, 4]
        misspelt = open_split(row(label_map="rde=warm;green=cold", splits="train=all"), "train", tmp_path)
        assert [note.error for note in misspelt.warnings] == ["label_map names 'rde', which no image has."]
        dropped = open_split(row(label_map="red=", splits="train=all"), "train", tmp_path)
        assert dropped.class_names == ["blue", "green"]
        assert len(dropped) == 8

    def test_one_class(self, tmp_path):
        write_colour_folder(tmp_path / "d")
        for name in ("red", "green"):
            for file in (tmp_path / "d" / name).iterdir():
                file.unlink()
            (tmp_path / "d" / name).rmdir()
        with pytest.raises(ItemError, match="one class only, 'blue'") as caught:
            open_split(row(), "train", tmp_path)
        assert "two classes" in caught.value.hint

    def test_an_empty_class_is_reported_and_left_out(self, tmp_path):
        write_colour_folder(tmp_path / "d")
        (tmp_path / "d" / "yellow").mkdir()
        notes = []
        tasks = load_task_images(row(), tmp_path, warnings=notes)
        assert tasks.class_names == ["blue", "green", "red"]
        assert notes[0].error == "classes without an image in the split 'train' are left out: 'yellow'."

    def test_an_unreadable_image_is_skipped_and_counted(self, tmp_path):
        write_colour_folder(tmp_path / "d", splits=("train", "test"))
        (tmp_path / "d/train/red/red_0.png").write_bytes(b"broken")
        notes = []
        tasks = load_task_images(row(), tmp_path, warnings=notes)
        assert len(tasks.train_images) == 11
        assert len(notes) == 1
        assert "train/red/red_0.png" in notes[0].error
        for file in (tmp_path / "d/train/red").iterdir():
            file.write_bytes(b"broken")
        tasks = load_task_images(row(), tmp_path)
        assert tasks.class_names == ["blue", "green"]
        assert set(tasks.test_labels) == {0, 1}
        for file in (tmp_path / "d/train/blue").iterdir():
            file.write_bytes(b"broken")
        with pytest.raises(ItemError, match=r"only one class .*skipped train/blue/.*not an image of a known"):
            load_task_images(row(), tmp_path)

    def test_links_out_of_the_folder_are_refused(self, tmp_path):
        write_colour_folder(tmp_path / "d")
        secret = write_colour_folder(tmp_path / "elsewhere") / "red"
        (tmp_path / "d" / "zlink").symlink_to(secret)
        (tmp_path / "d" / "zabove").symlink_to(tmp_path / "d")
        (tmp_path / "d" / "red" / "z.png").symlink_to(secret / "red_0.png")
        images = open_split(row(splits="train=all"), "train", tmp_path)
        told = " ".join(note.error for note in images.warnings)
        assert "lead out of the dataset's folder, or back to it, are left out: 'zabove', 'zlink'" in told
        assert "12 of 13 files can be images; not read: 1 links that lead outside" in told
        assert np.bincount(images.labels).tolist() == [4, 4, 4]

    def test_absent_or_wrong_sources(self, tmp_path):
        with pytest.raises(ItemError, match="doesn't exist"):
            open_split(row(), "train", tmp_path)
        (tmp_path / "d").write_text("")
        with pytest.raises(ItemError, match="not a folder"):
            open_split(row(), "train", tmp_path)
        with pytest.raises(ItemError, match="no loader 'ftp'"):
            open_split(row("ftp"), "train", tmp_path)
        (tmp_path / "e").mkdir()
        with pytest.raises(ItemError, match="no images"):
            open_split(row(source="e"), "train", tmp_path)

    def test_fingerprint_changes_with_the_files(self, tmp_path):
        write_colour_folder(tmp_path / "d")
        before = fingerprint(row(), tmp_path)
        assert before == fingerprint(row(), tmp_path)
        (tmp_path / "d/red/red_0.png").unlink()
        assert fingerprint(row(), tmp_path) != before

    def test_sizes(self, tmp_path):
        write_colour_folder(tmp_path / "d")
        Image.new("RGB", (30, 20)).save(tmp_path / "d/red/odd.png")
        assert load_task_images(row(), tmp_path, size=12).train_images.shape[1:] == (12, 12, 3)
        assert load_task_images(row(), tmp_path, ImageLimits(seed=3)).train_images.shape[1] == 10

    def test_photographs_of_several_sizes_keep_what_models_see_of_them(self, tmp_path):
        for name in ("a", "b"):
            (tmp_path / "d" / name).mkdir(parents=True)
            for i, shape in enumerate([(320, 240), (240, 320), (300, 240), (2000, 1600)]):
                Image.new("RGB", shape, (10 * i, 0, 0)).save(tmp_path / "d" / name / f"{i}.png")
        notes = []
        assert load_task_images(row(), tmp_path, warnings=notes).train_images.shape[1:] == (240, 240, 3)
        assert not any("memory" in note.error for note in notes)
        assert load_task_images(row(), tmp_path, largest=200).train_images.shape[1] == 200
        memory = 8 * 3 * 100**2
        assert (
            load_task_images(row(), tmp_path, warnings=notes, memory=memory, largest=200).train_images.shape[1] == 100
        )
        assert "images of 200 pixels are reduced to 100, so that all 8 fit into memory." in [n.error for n in notes]


class TestNPZ:
    def test_splits_classes_and_grey_images(self, tmp_path):
        write_npz(tmp_path / "d.npz", train_images=np.full((12, 8, 8), 9, np.uint8))
        tasks = load_task_images(row("npz", "d.npz"), tmp_path)
        assert tasks.train_images.shape == (12, 8, 8, 3)
        assert (tasks.train_images == 9).all()
        assert tasks.test_labels.tolist() == [0, 1, 2, 0, 1, 2]
        assert tasks.class_names == ["c0", "c1", "c2"]

    def test_images_without_splits_and_labels_of_any_kind(self, tmp_path):
        images = np.zeros((8, 4, 4), np.uint8)
        np.savez(tmp_path / "d.npz", images=images, labels=np.array(["b", "a"] * 4))
        train = open_split(row("npz", "d.npz"), "train", tmp_path)
        assert train.class_names == ["a", "b"]
        assert len(train) == 6
        np.savez(tmp_path / "d.npz", images=images, labels=np.array([[5], [7]] * 4))
        assert open_split(row("npz", "d.npz"), "train", tmp_path).class_names == ["5", "7"]
        names = np.array(["b", "a", "c"])
        np.savez(tmp_path / "d.npz", images=images, labels=np.array(["b", "a"] * 4), class_names=names)
        held = open_split(row("npz", "d.npz", splits="train=all"), "train", tmp_path)
        assert held.labels.tolist() == [0, 1] * 4
        assert "'c'" in held.warnings[0].error

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"train_labels": None}, "lacks"),
            ({"train_labels": np.zeros(3, int)}, "shape"),
            ({"train_images": np.zeros((12, 8), np.uint8)}, "shape"),
            ({"train_labels": np.zeros(12, int)}, "one class only"),
            ({"train_labels": np.array([{}] * 12, dtype=object)}, "Object arrays"),
        ],
    )
    def test_bad_content(self, tmp_path, changes, message):
        write_npz(tmp_path / "d.npz", **changes)
        with pytest.raises(ItemError, match=message) as caught:
            open_split(row("npz", "d.npz"), "train", tmp_path)
        assert caught.value.hint

    def test_damaged_and_empty_files(self, tmp_path):
        path = tmp_path / "d.npz"
        write_npz(path)
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(ItemError, match="not a readable NPZ"):
            open_split(row("npz", "d.npz"), "train", tmp_path)
        np.savez(path, x=np.zeros(3))
        with pytest.raises(ItemError, match="no images; there are x"):
            open_split(row("npz", "d.npz"), "train", tmp_path)

    def test_zip_bomb_and_lying_header(self, tmp_path, monkeypatch):
        path = tmp_path / "d.npz"
        write_npz(path)
        monkeypatch.setattr("thesis_rec.images.sources.MAX_BYTES", 100)
        with pytest.raises(ItemError, match="unpacks to"):
            open_split(row("npz", "d.npz"), "train", tmp_path)
        monkeypatch.undo()
        labels = io.BytesIO()
        np.save(labels, np.arange(6) % 3)
        with zipfile.ZipFile(path, "w") as archive:
            header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (10000000, 1000, 1000, 3), }"
            header += b" " * (118 - len(header) - 1) + b"\n"
            archive.writestr("train_images.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
            archive.writestr("train_labels.npy", labels.getvalue())
        with pytest.raises(ItemError, match="not a readable NPZ"):
            open_split(row("npz", "d.npz"), "train", tmp_path)

    def test_fingerprint_follows_the_content(self, tmp_path):
        write_npz(tmp_path / "d.npz")
        before = fingerprint(row("npz", "d.npz"), tmp_path)
        write_npz(tmp_path / "d.npz", train_labels=(np.arange(12) + 1) % 3)
        assert fingerprint(row("npz", "d.npz"), tmp_path) != before

    def test_real_images(self, shared_dir):
        tasks = load_task_images(row("npz", "mnist.npz"), shared_dir / "data" / "images", ImageLimits(n_per_class=3))
        assert tasks.train_images.shape == (30, 28, 28, 3)
        assert len(tasks.class_names) == 10


class TestGenerated:
    def test_images_are_those_of_the_task_and_drawn_late(self, tmp_path, monkeypatch):
        from thesis_rec import tasks

        drawn = []
        real = tasks.generate_split
        monkeypatch.setattr(tasks, "generate_split", lambda *a: drawn.append(a) or real(*a))
        monkeypatch.setattr(tasks, "TRAIN_PER_CLASS", 2)
        name = next(iter(tasks.BASE_TASKS))
        images = open_split(row("generated", name), "train", tmp_path)
        assert drawn == []
        expected, labels = real(name, "train", 2, 0)
        assert np.array_equal(images.labels, labels)
        assert np.array_equal(images.image(3), expected[3])
        assert len(drawn) == 1
        with pytest.raises(ItemError, match="no generated task"):
            open_split(row("generated", "nope"), "train", tmp_path)


def test_classes_that_only_training_images_have_are_told(tmp_path):
    """Where the source keeps the images for testing apart; a share of the same ones has each class that has two."""
    for split, names in (("train", "abc"), ("test", "ab")):
        for name in names:
            (tmp_path / "d" / split / name).mkdir(parents=True)
            for i in range(4):
                Image.new("RGB", (6, 6), (40 * i, 0, 0)).save(tmp_path / "d" / split / name / f"{i}.png")
    (told,) = open_dataset(row(), tmp_path).untested()
    assert "c" in told.error
    assert open_dataset(row(splits="train:0.5;test=train:0.5"), tmp_path).untested() == []


class TestHub:
    @pytest.fixture
    def saved(self, tmp_path):
        datasets = pytest.importorskip("datasets")
        pictures = [Image.new("RGB", (6, 6), (i * 20, 0, 0)) for i in range(12)]
        features = datasets.Features({"img": datasets.Image(), "fine": datasets.ClassLabel(names=["a", "b", "c"])})
        content = datasets.Dataset.from_dict({"img": pictures, "fine": [i % 3 for i in range(12)]}, features=features)
        datasets.DatasetDict({"train": content, "validation": content.select(range(3))}).save_to_disk(tmp_path / "d")
        return tmp_path

    def test_saved_dataset(self, saved):
        train, test = (open_split(row("huggingface"), split, saved) for split in ("train", "test"))
        assert train.class_names == ["a", "b", "c"]
        assert train.labels.tolist() == [0, 1, 2] * 4
        assert train.image(5)[0, 0].tolist() == [100, 0, 0]
        assert len(test) == 3
        assert fingerprint(row("huggingface"), saved) == fingerprint(row("huggingface"), saved)
        with pytest.raises(ItemError, match="no column 'nope'"):
            open_split(row("huggingface", label_column="nope"), "train", saved)

    def test_splits_may_count_the_same_classes_in_another_order(self, tmp_path):
        datasets = pytest.importorskip("datasets")
        content, shades = {}, {"a": 40, "b": 90, "c": 140}
        for split, names in (("train", ["a", "b"]), ("test", ["b", "c", "a"])):
            features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
            pictures = [Image.new("RGB", (6, 6), (shades[name], 0, 0)) for name in names]
            table = {"image": [*pictures, pictures[0]], "label": [*range(len(names)), -1]}
            content[split] = datasets.Dataset.from_dict(table, features=features)
        datasets.DatasetDict(content).save_to_disk(tmp_path / "d")
        for split, labels in (("train", ["a", "b"]), ("test", ["b", "c", "a"])):
            images = open_split(row("huggingface"), split, tmp_path)
            assert images.class_names == ["a", "b", "c"]
            assert [images.class_names[c] for c in images.labels] == labels
            assert [images.image(i)[0, 0, 0] for i in range(len(labels))] == [shades[name] for name in labels]

    def test_images_without_a_label_are_left_out_and_counted(self, tmp_path):
        datasets = pytest.importorskip("datasets")
        pictures = [Image.new("RGB", (6, 6), (i * 20, 0, 0)) for i in range(4)]
        features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
        content = {"image": pictures, "label": ["a", None, "b", "a"]}
        datasets.Dataset.from_dict(content, features=features).save_to_disk(tmp_path / "d")
        images = open_split(row("huggingface", splits="train"), "train", tmp_path)
        assert images.class_names == ["a", "b"]
        assert images.labels.tolist() == [0, 1, 0]
        assert [images.image(i)[0, 0, 0] for i in range(3)] == [0, 40, 60]
        assert "1 of 4 images in 'train' have no label" in images.warnings[0].error

    @pytest.mark.parametrize(
        ("files", "holds"),
        [
            (["a.parquet"], True),
            (["data/a.parquet"], True),
            (["data/a.parquet", ".cache/x"], True),
            (["data/a.parquet", "cat/1.png"], False),
            (["cat/1.png", "dog/1.png"], False),
            (["data/1.png"], False),
            (["dataset_info.json", "cat/1.png"], True),
            (["dataset_dict.json"], True),
        ],
    )
    def test_which_folders_are_the_library_s(self, tmp_path, files, holds):
        for name in files:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        assert holds_tables(tmp_path) is holds

    def test_folder_of_images_and_streaming(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        write_colour_folder(tmp_path / "d", per_class=5, splits=("train",))
        limits = ImageLimits(streaming=True, n_per_class=2)
        images = open_split(row("huggingface", splits="train"), "train", tmp_path, limits)
        assert np.bincount(images.labels).tolist() == [2, 2, 2]
        assert images.class_names == ["blue", "green", "red"]
        blue = images.image(int(np.flatnonzero(images.labels == 0)[0]))
        assert blue[..., 2].mean() > 200
        short = open_split(
            row("huggingface", splits="train"), "train", tmp_path, ImageLimits(streaming=True, max_streamed=9)
        )
        assert len(short) == 9

    def test_offline_missing_and_gated(self, tmp_path, monkeypatch):
        import datasets
        from datasets.exceptions import DatasetNotFoundError
        from huggingface_hub import errors

        for error, message in (
            (ConnectionError("Couldn't reach"), "offline"),
            (DatasetNotFoundError("Dataset 'x' is gated"), "gated"),
            (DatasetNotFoundError("Dataset 'x' doesn't exist"), "dataset org/name isn't on the hub, or is private"),
            (ValueError("Unknown config"), "can't be loaded"),
        ):
            if isinstance(error, DatasetNotFoundError):  # as the library raises it
                gated = "gated" in str(error)
                kind = errors.GatedRepoError if gated else errors.RepositoryNotFoundError
                error.__cause__ = kind("no", response=SimpleNamespace(status_code=401, headers={}, request=None))
            monkeypatch.setattr(datasets, "load_dataset", lambda *a, e=error, **k: (_ for _ in ()).throw(e))
            with pytest.raises(ItemError, match=message) as caught:
                open_split(row("huggingface", "org/name"), "train", tmp_path)
            assert caught.value.hint
        assert fingerprint(row("huggingface", "org/name", revision="v1"), tmp_path) == "hub:org/name::v1"

    def test_labels_and_cells_of_other_kinds(self, monkeypatch, tmp_path):
        import datasets

        table = datasets.Dataset.from_dict({"image": [b"", None, b"", b""], "label": ["x", "y", "x", "y"]})
        table = table.cast_column("image", datasets.Image(decode=False))
        monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: table)
        images = open_split(row("huggingface", "org/name", splits="train"), "train", tmp_path)
        assert images.class_names == ["x", "y"]
        with pytest.raises(ItemError, match="empty"):
            images.image(0)
        with pytest.raises(ItemError, match="no content"):
            images.image(1)


def test_a_subtask_has_no_images(tmp_path):
    sub = DatasetRow(dataset_id="s", parent=("d",), class_subset=(("d", 0), ("d", 1)))
    with pytest.raises(ItemError, match="no loader"):
        open_split(sub, "train", tmp_path)


def test_a_loader_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setitem(LOADERS, "sketches", None)

    @register_loader("sketches")
    def open_sketches(r, root, limits):
        pictures = np.zeros((4, 5, 5, 3), np.uint8)
        split = RawSplit(np.array([0, 1, 0, 1]), pictures.__getitem__)
        return Source({"train": split, "test": split}, ["a", "b"])

    images = open_split(row("sketches"), "train", tmp_path)
    assert len(images) == 4
    assert images.class_names == ["a", "b"]
    assert fingerprint(row("sketches"), tmp_path) == ""
