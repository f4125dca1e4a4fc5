"""Images and labels as people really have them: read rightly, noted, or refused with the true reason; never a guess."""

import os
import struct
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.images.opening import open_split
from thesis_rec.base.errors import Failure, ItemError
from thesis_rec.base.files import check_id, nearest_id
from thesis_rec.images import overview
from thesis_rec.images.copies import Glimpses, content_digest, distances, sampled_digest
from thesis_rec.images.dataset_source import FileNote
from thesis_rec.images.decoding import Scale, decide_scale, decode_image, value_range
from thesis_rec.images.labels import make_vocabulary
from thesis_rec.images.layout import read_layout, split_role
from thesis_rec.images.loading import load_task_images, open_dataset, split_fingerprint
from thesis_rec.images.manifest import DatasetRow


def row(source, **fields):
    loader = "npz" if str(source).endswith(".npz") else "folder"
    return DatasetRow.model_validate({"dataset_id": "d", "loader": loader, "source": str(source)} | fields)


def picture(path, colour, size=12):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(abs(hash((path.name, colour))) % 2**32).integers(-9, 9, (size, size, 3))
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(path)


COLOURS = {"red": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200)}


def classes(folder, names, n=4):
    for name, colour in zip(names, COLOURS.values(), strict=False):
        for i in range(n):
            picture(folder / name / f"{name}{i}.png", colour)


def notes(images):
    return " ".join(note.error for note in images.warnings)


def refused(path):
    """Why a dataset is refused, if it is."""
    try:
        load_task_images(row(path), path.parent)
    except ItemError as error:
        return error
    return None


def pixel_notes(train, train_labels, test, test_labels):
    """What near copies say of two parts of a dataset."""
    glimpses = Glimpses()
    for part, pixels, labels in (("train", train, train_labels), ("test", test, test_labels)):
        glimpses.add(part, np.arange(len(pixels)), labels, pixels)
    return glimpses.notes()


def npz(path, labels, images=None, **more):
    labels = np.asarray(labels)
    images = (
        np.random.default_rng(0).integers(0, 256, (len(labels), 6, 6, 3)).astype(np.uint8) if images is None else images
    )
    np.savez(path, images=images, labels=labels, **more)
    return path


class TestVocabulary:
    def test_splits_with_different_classes_share_one_numbering(self, tmp_path):
        rng = np.random.default_rng(0)
        grey = {"Cat": 20, "ant": 90, "bee": 160, "cat": 230}
        parts = {}
        for split, names in (("train", ["Cat", "ant", "bee"]), ("test", ["ant", "bee", "cat"])):
            labels = np.repeat(names, 6)
            parts[f"{split}_labels"] = labels
            parts[f"{split}_images"] = np.stack(
                [np.clip(grey[name] + rng.integers(-9, 9, (6, 6, 3)), 0, 255).astype(np.uint8) for name in labels]
            )
        np.savez(tmp_path / "d.npz", **parts)
        told: list[Failure] = []
        task = load_task_images(row(tmp_path / "d.npz"), tmp_path, warnings=told)
        means = task.train_images.mean(axis=(1, 2, 3))
        guessed = [task.train_labels[np.abs(means - image.mean()).argmin()] for image in task.test_images]
        assert len(task.test_images) == 12
        assert np.mean(guessed == task.test_labels) == 1.0
        assert any("classes 'Cat' and 'cat' differ only in the case" in note.error for note in told)
        assert any("6 of 18 images for testing are of classes without training images" in note.error for note in told)
        # The other door to the same images numbers them alike.
        test = open_split(row(tmp_path / "d.npz"), "test", tmp_path)
        assert [test.class_names[c] for c in np.unique(test.labels)] == ["ant", "bee", "cat"]

    def test_tables_and_file_names_are_numbered_over_all_splits(self, tmp_path):
        for split, names in (("train", ["ant", "bee", "cat"]), ("test", ["bee", "cat"])):
            for name in names:
                for i in range(3):
                    picture(tmp_path / "d" / split / f"{name}_{i}.png", (90, 90, 90))
        opened = open_dataset(row(tmp_path / "d", label_column="filename:^([a-z]+)_"), tmp_path)
        assert opened.vocabulary.names == ["ant", "bee", "cat"]
        assert sorted(set(opened.vocabulary.codes["test"].tolist())) == [1, 2]

    @pytest.mark.parametrize(
        ("labels", "names", "expected", "count"),
        [
            ([0, 1, 2, -1] * 3, ["x", "y", "z"], ["x", "y", "z"], 9),
            ([0, 1, 2, -1] * 3, None, ["0", "1", "2"], 9),
            ([0.0, 1.0, np.nan] * 4, None, ["0", "1"], 8),
            (["cat ", "cat", " dog", "dog", "", "nan"] * 2, None, ["cat", "dog"], 8),
            ([-1, 1] * 6, None, ["-1", "1"], 12),
            ([1, 2, 3] * 4, ["x", "y", "z"], ["x", "y", "z"], 12),
            ([b"a", b"b"] * 6, None, ["a", "b"], 12),
            (["caf\u00e9", "cafe\u0301", "bar"] * 4, None, ["bar", "caf\u00e9"], 12),
            ([2, 10, 1] * 4, None, ["1", "2", "10"], 12),
            (["2", "10", "x"] * 4, None, ["10", "2", "x"], 12),
        ],
    )
    def test_what_is_no_label_is_left_out(self, labels, names, expected, count):
        found = make_vocabulary("d", {"all": np.array(labels)}, names)
        assert found.names == expected
        assert (found.codes["all"] >= 0).sum() == count
        if count < 12:
            assert f"{12 - count} of 12 images in 'all' have no label" in found.notes[0]

    @pytest.mark.parametrize(
        ("labels", "names", "message"),
        [
            (np.linspace(0, 1, 36), None, "36 different labels are fractions"),
            (np.arange(36), None, "36 of 36 images have a label of their own"),
            ([f"{i}.png" for i in range(36)], None, "label of their own"),
            ([0, 1, 5] * 4, ["x", "y", "z"], "don't fit 3 class names"),
            (["x", "w"] * 6, ["x", "y"], "'w' in 'all' is not among the class names"),
            (np.zeros(12, "M8[s]"), None, "are no classes"),
        ],
    )
    def test_quantities_identifiers_and_strangers_are_refused(self, labels, names, message):
        with pytest.raises(ItemError, match=message) as caught:
            make_vocabulary("d", {"all": np.array(labels)}, names)
        assert caught.value.hint

    def test_class_names_that_repeat_are_told(self):
        found = make_vocabulary("d", {"all": np.array([0, 1, 2])}, ["cat", "dog", "cat"])
        assert (found.names, found.codes["all"].tolist()) == (["cat", "dog"], [0, 1, 0])
        assert found.notes == ("the class names hold 'cat' more than once: those classes are read as one.",)

    def test_marks_of_absent_labels_are_named(self):
        texts = np.array(["cat", "n/a", "dog", "NULL", " ", "cat"])
        found = make_vocabulary("d", {"all": texts}, None)
        assert found.names == ["cat", "dog"]
        assert found.codes["all"].tolist() == [0, -1, 1, -1, -1, 0]
        assert found.notes == ("3 of 6 images in 'all' have no label (NULL, n/a) and are left out.",)
        # A folder of that name is a class.
        found = make_vocabulary("d", {"all": np.array(["nan", "pita"])}, ["nan", "pita"])
        assert found.codes["all"].tolist() == [0, 1]

    @pytest.mark.parametrize(
        ("labels", "names"),
        [
            (np.array(["1", "1.0", "0", "0.0", ""]), ["0", "1"]),
            (np.array(["cat", "cat\u200b", "big  dog", "\ufeffbig dog", "cat "]), ["big dog", "cat"]),
            (np.array([1, 1, 0, 0, -100]), ["0", "1"]),
        ],
    )
    def test_one_class_written_in_several_ways(self, labels, names):
        found = make_vocabulary("d", {"all": labels}, None)
        assert found.names == names
        codes = found.codes["all"]
        assert codes[0] == codes[1]
        assert codes[2] == codes[3]

    def test_fractions_in_a_table_are_a_quantity_even_if_they_repeat(self):
        with pytest.raises(ItemError, match=r"its 2 different labels are fractions \(1.5, 2.5"):
            make_vocabulary("d", {"all": np.array(["1.5", "2.5"] * 20)}, None)

    def test_rows_of_zeros_and_a_one_are_classes(self, tmp_path):
        path = npz(tmp_path / "d.npz", np.eye(3)[[0, 1, 2, 1] * 3])
        assert open_dataset(row(path), tmp_path).vocabulary.codes["all"].tolist() == [0, 1, 2, 1] * 3
        several = npz(tmp_path / "e.npz", np.ones((12, 3), int))
        with pytest.raises(ItemError, match=r"labels \(12, 3\)"):
            open_dataset(row(several), tmp_path)

    def test_a_split_without_labels_is_left_out(self, tmp_path):
        images = np.random.default_rng(0).integers(0, 256, (12, 6, 6, 3)).astype(np.uint8)
        np.savez(
            tmp_path / "d.npz", train_images=images, train_labels=np.arange(12) % 3, test_images=images[:4],
            test_labels=np.full(4, -1),
        )  # fmt: skip
        task = load_task_images(row(tmp_path / "d.npz"), tmp_path)
        assert (len(task.train_images), len(task.test_images)) == (9, 3)


class TestLayout:
    @pytest.mark.parametrize(
        ("names", "role"),
        [
            ("Training", "train"), ("seg_train", "train"), ("TestSet", "test"), ("val2017", "validation"),
            ("train_images", "train"), ("trainval", "train"), ("testdata", "test"), ("eval", "validation"),
            ("cats", ""), ("train_test", ""), ("contrast", ""),
        ],
    )  # fmt: skip
    def test_names_that_mean_splits(self, names, role):
        assert split_role(names) == role

    def test_training_and_testing_with_validation(self, tmp_path):
        for split in ("Training", "Testing", "Validation", "extra"):
            classes(tmp_path / "d" / split, ["a", "b"])
        opened = open_dataset(row(tmp_path / "d"), tmp_path)
        assert opened.counts == {"Testing": 8, "Training": 8, "Validation": 8}
        assert "read as 2 classes (a, b); images: Testing 8, Training 8, Validation 8" in overview.split_line(opened)
        assert len(opened.split("train")) == len(opened.split("test")) == 8
        assert "the folder 'extra' has no name of a split and is left out." in notes(opened.split("train"))

    def test_folders_within_folders_of_the_same_name(self, tmp_path):
        for split in ("seg_train", "seg_test"):
            classes(tmp_path / "d" / split / split, ["sea", "wood"])
        picture(tmp_path / "d/seg_pred/seg_pred/1.png", (9, 9, 9))
        opened = open_dataset(row(tmp_path / "d"), tmp_path)
        assert opened.vocabulary.names == ["sea", "wood"]
        assert "'seg_pred' holds no folders of the classes" in notes(opened.split("train"))

    @pytest.mark.parametrize("name", ["test/1.png", "test/test/1.png", "test/unknown/1.png"])
    def test_a_test_folder_without_classes_is_left_out(self, tmp_path, name):
        classes(tmp_path / "d/train", ["a", "b"])
        picture(tmp_path / "d" / name, (9, 9, 9))
        opened = open_dataset(row(tmp_path / "d"), tmp_path)
        assert opened.counts == {"train": 8}
        assert (len(opened.split("train")), len(opened.split("test"))) == (6, 2)
        assert "'test' holds no folders of the classes" in notes(opened.split("train"))

    def test_a_class_called_train(self, tmp_path):
        classes(tmp_path / "d", ["bus", "car", "train"])
        opened = open_dataset(row(tmp_path / "d"), tmp_path)
        assert opened.vocabulary.names == ["bus", "car", "train"]
        # Names that end like splits, of folders that hold nothing in common.
        for name in ("steam_train/day1", "toy_train/day2"):
            picture(tmp_path / "f" / name / "1.png", (9, 9, 9))
        assert read_layout(tmp_path / "f", "f").class_names == ["steam_train", "toy_train"]
        for split in ("train", "test"):
            classes(tmp_path / "e" / split, ["bus", "car", "train"])
        assert open_dataset(row(tmp_path / "e"), tmp_path).counts == {"test": 12, "train": 12}

    def test_wrapping_folders_and_splits_within_classes(self, tmp_path):
        classes(tmp_path / "d/archive/data", ["a", "b"])
        assert open_dataset(row(tmp_path / "d"), tmp_path).vocabulary.names == ["a", "b"]
        for name in ("cat", "dog"):
            for split in ("train", "test"):
                picture(tmp_path / "e" / name / split / "1.png", (9, 9, 9))
        found = read_layout(tmp_path / "e", "e")
        assert {split: sorted(parts) for split, parts in found.splits.items()} == {
            "test": ["cat", "dog"], "train": ["cat", "dog"],
        }  # fmt: skip

    def test_two_readings_are_refused_with_both(self, tmp_path):
        for place in ("north", "south"):
            classes(tmp_path / "d" / place, ["healthy", "ill"])
        with pytest.raises(ItemError, match=r"as 2 classes 'north', 'south', or as .* holding the classes 'healthy'"):
            open_dataset(row(tmp_path / "d"), tmp_path)
        for split in ("train", "test"):
            picture(tmp_path / "e" / split / "1.png", (9, 9, 9))
        with pytest.raises(ItemError, match=r"as 2 classes 'test', 'train', or as 'test', 'train' .* without labels"):
            open_dataset(row(tmp_path / "e"), tmp_path)
        classes(tmp_path / "g", ["bus", "car"])
        picture(tmp_path / "g/test/1.png", (9, 9, 9))
        with pytest.raises(ItemError, match=r"as 3 classes .* or as 'test' holding images without labels"):
            open_dataset(row(tmp_path / "g"), tmp_path)
        classes(tmp_path / "f/train", ["steam", "diesel"])
        picture(tmp_path / "f/bus/1.png", (9, 9, 9))
        with pytest.raises(ItemError, match="two ways"):
            open_dataset(row(tmp_path / "f"), tmp_path)

    def test_folders_of_one_class_with_folders_of_their_own(self, tmp_path):
        picture(tmp_path / "d/cat/day1/1.png", (9, 9, 9))
        picture(tmp_path / "d/dog/day2/2.png", (99, 9, 9))
        opened = open_dataset(row(tmp_path / "d"), tmp_path)
        assert opened.counts == {"all": 2}
        assert "folders within 'cat' are read as one class" in notes(opened.split("train"))

    @pytest.mark.parametrize("place", ["", "train"])
    def test_the_same_folders_within_several_are_two_readings_wherever_they_lie(self, tmp_path, place):
        for site in ("north", "south"):
            classes(tmp_path / "d" / place / site, ["cat", "dog"])
        classes(tmp_path / "d" / place, ["fox"] * bool(place))
        error = refused(tmp_path / "d")
        assert "can be read in two ways" in error.error
        assert "'north', 'south' holding the classes 'cat', 'dog'" in error.error

    @pytest.mark.parametrize("place", ["", "train"])
    def test_one_name_within_all_folders_is_no_reading_of_its_own(self, tmp_path, place):
        for name in ("cat", "dog"):
            classes(tmp_path / "d" / place / name, ["images"])
        layout = read_layout(tmp_path / "d", "d")
        assert layout.class_names == ["cat", "dog"]
        assert layout.notes[0] == "the folders within 'cat' are read as one class."


class TestValues:
    @pytest.mark.parametrize(
        ("kind", "low", "high", "white"),
        [
            ("u", 0, 200, 255), ("u", 0, 1000, 1023), ("u", 0, 4000, 4095), ("i", 3, 60000, 65535),
            ("f", 0.0, 1.0, 1), ("f", -1.0, 1.0, 1), ("f", 0.0, 255.0, 255), ("f", 0.0, 4000.0, 4095), ("b", 0, 1, 1),
            ("f", 0.0, 100.0, 255),
        ],
    )  # fmt: skip
    def test_scales(self, kind, low, high, white):
        scale = decide_scale(kind, low, high)
        assert scale.high == white
        assert bool(scale.note) == (white in (1023, 4095, 65535) or low == -1 or (kind, high) == ("f", 100.0))

    @pytest.mark.parametrize(
        ("scale", "values"),
        [
            (Scale(0, 255), np.array([[7, -1, 255]], np.int16)),
            (Scale(0, 1023), np.array([[1024, 3, 4]], np.uint16)),
            (Scale(0, 1), np.array([-0.01, 0.5])),
            (Scale(0, 255), np.array([0.0, 0.5, 1.0])),
            (Scale(0, 1), np.array([0.5, np.inf])),
        ],
    )
    def test_nothing_is_clipped(self, scale, values):
        with pytest.raises(ValueError, match=r"lie outside|are fractions|not finite"):
            scale.apply(values)

    def test_a_range_is_of_all_finite_values_wherever_they_stand(self):
        values = np.random.default_rng(0).normal(size=(3, 5))
        for place in (0, 7, 14):
            values.flat[place] = 9.0 - place
            assert value_range(np.append(values, [np.nan, np.inf])) == (values.min(), values.max())

    @pytest.mark.parametrize(
        ("kind", "low", "high"),
        [("f", -2.1, 2.6), ("f", 0.0, 2.6), ("f", -0.4, 0.4), ("i", -1000, 3000), ("u", 0, 70000), ("c", 0, 1)],
    )
    def test_what_is_no_colour_is_refused(self, kind, low, high):
        with pytest.raises(ValueError, match="no colours"):
            decide_scale(kind, low, high)

    def test_minus_one_to_one_equals_the_bytes_it_was_made_of(self, tmp_path):
        images = np.random.default_rng(0).integers(0, 256, (12, 6, 6, 3)).astype(np.uint8)
        images[0, 0, 0], images[0, 0, 1] = 0, 255
        labels = np.arange(12) % 2
        made = (images / 127.5 - 1).astype(np.float32)
        bytes_, floats = (
            open_split(row(npz(tmp_path / f"{name}.npz", labels, array)), "train", tmp_path)
            for name, array in (("b", images), ("f", made))
        )
        assert all(np.array_equal(bytes_.image(i), floats.image(i)) for i in range(len(bytes_)))
        assert "-1 (black) to 1 (white)" in notes(floats)

    def test_standardised_and_not_finite_arrays(self, tmp_path):
        rng = np.random.default_rng(0)
        labels = np.arange(12) % 2
        with pytest.raises(ItemError, match="are no colours"):
            open_split(row(npz(tmp_path / "a.npz", labels, rng.normal(size=(12, 6, 6, 3)))), "train", tmp_path)
        with pytest.raises(ItemError, match="no value is finite"):
            open_split(row(npz(tmp_path / "b.npz", labels, np.full((12, 6, 6), np.nan))), "train", tmp_path)
        some = rng.uniform(0, 1, (12, 6, 6, 3))
        some[0, 0, 0, 0] = np.nan
        told: list[Failure] = []
        task = load_task_images(row(npz(tmp_path / "c.npz", labels, some)), tmp_path, warnings=told)
        assert len(task.train_images) + len(task.test_images) == 11
        assert any("not finite" in note.error for note in told)

    def test_fractions_in_one_split_and_levels_in_the_other_are_told(self, tmp_path):
        rng = np.random.default_rng(0)
        levels, labels = rng.random((12, 6, 6, 3)) * 255, np.arange(12) % 2
        fractions = levels / 255
        np.savez(
            tmp_path / "d.npz", train_images=fractions, train_labels=labels, test_images=levels, test_labels=labels
        )
        split = open_split(row(tmp_path / "d.npz"), "test", tmp_path)
        np.testing.assert_array_equal(split.image(0), np.rint(levels[0]))
        split = open_split(row(tmp_path / "d.npz"), "train", tmp_path)
        with pytest.raises(ItemError, match=r"values are fractions up to 0\.9.*, where others reach 255"):
            split.image(0)
        for name, content in (("train", fractions), ("test", levels)):
            for i, image in enumerate(content):
                path = tmp_path / "f" / name / "ab"[i % 2] / f"{i}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image[..., 0].astype(np.float32)).save(path)
        with pytest.raises(ItemError, match="are fractions up to"):
            open_split(row(tmp_path / "f"), "train", tmp_path).image(0)
        # Dark levels beside others are whole numbers, or black.
        assert Scale(0, 255).apply(np.array([[0.0, 1.0]])).tolist() == [[0, 1]]

    def test_channels_first(self, tmp_path):
        images = np.random.default_rng(0).integers(0, 256, (12, 6, 6, 3)).astype(np.uint8)
        path = npz(tmp_path / "d.npz", np.arange(12) % 2, images.transpose(0, 3, 1, 2))
        found = open_split(row(path, splits="train=all"), "train", tmp_path)
        assert np.array_equal(found.image(3), images[3])
        assert "(12, 3, 6, 6)" in notes(found)

    def test_frames_of_twelve_bits_have_one_scale(self, tmp_path):
        grey = np.random.default_rng(0).integers(0, 256, (12, 6, 6))
        for i, frame in enumerate(grey):
            dim = i % 4 == 0
            path = tmp_path / "d" / "ab"[i % 2] / f"{i:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((frame * (0.9 if dim else 16)).astype(np.uint16)).save(path)
        found = open_split(row(tmp_path / "d", splits="train=all"), "train", tmp_path)
        assert "12 bits: 4095 is white" in notes(found)
        expected = sorted(
            round(float((frame * (0.9 if i % 4 == 0 else 16)).astype(np.uint16).mean() / 4095 * 255), 0)
            for i, frame in enumerate(grey)
        )
        assert np.allclose(sorted(found.image(i).mean() for i in range(12)), expected, atol=1.0)


class TestFiles:
    def exif(self, *tags):
        """A JPEG whose metadata are odd: orientation 6 and whatever else."""
        import io

        buffer = io.BytesIO()
        Image.new("RGB", (8, 4), (200, 0, 0)).save(buffer, "JPEG")
        base = buffer.getvalue()
        block = b"II*\0" + struct.pack("<IH", 8, 1 + len(tags)) + struct.pack("<HHIHH", 0x112, 3, 1, 6, 0)
        block += b"".join(struct.pack("<HHII", *tag) for tag in tags) + struct.pack("<I", 0) + struct.pack("<ii", -1, 0)
        content = b"Exif\0\0" + block
        return base[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + base[2:]

    def test_odd_metadata_don_t_cost_a_photo(self):
        assert decode_image(self.exif((0x11A, 10, 1, 38))).size == (4, 8)
        rng = np.random.default_rng(0)
        good = self.exif((0x11A, 5, 1, 38), (0x132, 2, 20, 38))
        sizes = set()
        for _ in range(300):
            broken = bytearray(good)
            for place in rng.integers(12, 60, 3):
                broken[place] = rng.integers(256)
            sizes.add(decode_image(bytes(broken)).size)
        assert sizes <= {(8, 4), (4, 8)}

    def test_only_formats_of_pixels_are_opened(self):
        script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
        with pytest.raises(ItemError, match="not an image of a known format"):
            decode_image(script, "x.png")

    def test_pipes_empty_and_foreign_files_are_counted(self, tmp_path):
        classes(tmp_path / "d", ["a", "b"])
        (tmp_path / "d/a/empty.png").write_bytes(b"")
        (tmp_path / "d/a/phone.heic").write_bytes(b"x")
        (tmp_path / "d/b/raw.cr2").write_bytes(b"x")
        os.mkfifo(tmp_path / "d/b/pipe.png")
        (tmp_path / "d/b/gone.png").symlink_to(tmp_path / "nowhere.png")
        (tmp_path / "d/notes.txt").write_text("x")
        told = notes(open_split(row(tmp_path / "d"), "train", tmp_path))
        assert "8 of 13 files can be images" in told
        for kind in (
            ".heic files",
            ".cr2 files",
            "empty files (0 bytes)",
            "pipes or devices",
            "links that lead nowhere",
        ):
            assert f"1 {kind}" in told
        with pytest.raises(ItemError, match="no regular file"):
            decode_image(tmp_path / "d/b/pipe.png")

    def test_the_reason_is_in_the_refusal(self, tmp_path):
        classes(tmp_path / "store", ["a", "b"])
        (tmp_path / "d").mkdir()
        for name in ("a", "b"):
            (tmp_path / "d" / name).symlink_to(tmp_path / "store" / name)
        with pytest.raises(ItemError, match=r"no images.*links and lead out of the dataset's folder.*'a', 'b'"):
            open_split(row(tmp_path / "d"), "train", tmp_path)
        for name in ("a", "b"):
            (tmp_path / "e" / name).mkdir(parents=True)
            (tmp_path / "e" / name / "1.heic").write_bytes(b"x")
        with pytest.raises(ItemError, match=r"no images.*0 of 2 files can be images; not read: 2 \.heic files"):
            open_split(row(tmp_path / "e"), "train", tmp_path)

    def test_what_stands_in_a_file_s_place_is_said(self, tmp_path):
        (tmp_path / "a.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
        with pytest.raises(ItemError, match="the file is a pointer of Git LFS"):
            decode_image(tmp_path / "a.png")

    def test_failures_are_counted_by_reason(self):
        errors = [ItemError(f"{i}.png", "the file is empty.", "Replace it.") for i in range(7)]
        failures = [FileNote.skipped("d", error) for error in [*errors, ItemError("x.png", "it is cut off.", "")]]
        failures += [Failure("d", "a note.", "Act."), failures[0], FileNote("d", "1 of 2 files.")]
        of_files, others = overview.told(failures)
        counts = "8 images couldn't be read; 7: the file is empty (0.png); 1: it is cut off (x.png)."
        assert (of_files, others) == ([counts, "1 of 2 files."], ["a note. Act."])

    def test_a_flat_folder_with_a_table(self, tmp_path):
        for i in range(8):
            picture(tmp_path / "d" / f"{i}.png", (90, 90, 90))
        with pytest.raises(ItemError, match="8 images but no class folders") as caught:
            open_split(row(tmp_path / "d"), "train", tmp_path)
        assert "labels" in caught.value.hint
        table = tmp_path / "labels.csv"
        table.write_text("\ufeffFile;Species\n" + "\n".join(f"{i}.png;{'cat' if i % 2 else 'dog '}" for i in range(8)))
        found = open_dataset(row(tmp_path / "d", labels=str(table)), tmp_path)
        assert found.vocabulary.names == ["cat", "dog"]
        assert found.counts == {"all": 8}
        table.write_text('a,b\n"x')
        with pytest.raises(ItemError, match=r"labels.csv can't be read as a table"):
            open_dataset(row(tmp_path / "d", labels=str(table)), tmp_path)

    def test_tables_as_competitions_and_spreadsheets_write_them(self, tmp_path):
        for i in range(8):
            picture(tmp_path / "d" / "images" / f"{i}.png", (90, 90, 90))
        table = tmp_path / "d" / "t.csv"

        def read(head, *cells):
            lines = [",".join(str(cell(i)) for cell in cells) for i in range(8)]
            table.write_text("\n".join([head, *lines]))
            found = open_dataset(row(tmp_path / "d", labels="t.csv"), tmp_path)
            return found.vocabulary.names, found.counts

        def name(i):
            return f"images/{i}"

        def kind(i):
            return "cat" if i % 2 else "dog"

        two = ["cat", "dog"]
        # Identifiers without an ending, the number of each row, backslashes, and a column of splits.
        assert read("id,breed", name, kind) == (two, {"all": 8})
        assert read(",file_name,breed", int, lambda i: f"images\\{i}.png", kind) == (two, {"all": 8})
        parts = read("image,label,Split", name, kind, lambda i: "train" if i < 6 else "val")
        assert parts == (two, {"train": 6, "val": 2})
        # One that isn't used is told of; a row that stands there twice is one image.
        assert read("image,label,Split", lambda i: name(i // 2), lambda i: kind(i // 2), lambda i: "") == (
            two,
            {"all": 4},
        )
        told = notes(open_split(row(tmp_path / "d", labels="t.csv"), "train", tmp_path))
        assert "the column 'Split' holds '', which names no split, and isn't used." in told
        # Columns of zeros and a one.
        hot = read("image,cat,dog,emu", name, lambda i: float(i % 2), lambda i: float(not i % 2), lambda i: 0.0)
        assert hot == (two, {"all": 8})
        # A column of splits beside them is none of the labels.
        splits = {"train": 6, "val": 2}
        assert read(
            "image,cat,dog,split",
            name,
            lambda i: i % 2,
            lambda i: (i + 1) % 2,
            lambda i: "train" if i < 6 else "val",
        ) == (two, splits)
        assert read("id,breed,split", name, kind, lambda i: "train" if i < 6 else "val") == (two, splits)
        assert read("image,label", lambda i: f"other/{i}.png", kind) == ([], {"all": 0})
        with pytest.raises(ItemError, match="8 files of the table that don't exist"):
            open_split(row(tmp_path / "d", labels="t.csv"), "train", tmp_path)
        with pytest.raises(ItemError, match="no column 'label'; there are kind, colour") as caught:
            read("image,kind,colour", name, kind, lambda i: "red")
        assert "Call it label" in caught.value.hint

    def test_thin_requests_are_told(self, tmp_path):
        classes(tmp_path / "d", ["a", "b"], n=4)
        found = overview.thin_notes(open_split(row(tmp_path / "d"), "train", tmp_path))
        few = "few images: a, b have less than 10 for training, the fewest 3; models are hardly told apart."
        assert found == [few]
        images = np.zeros((120, 4, 4), np.uint8)
        path = npz(tmp_path / "e.npz", np.r_[np.zeros(105, int), np.ones(15, int)], images)
        lopsided = open_split(row(path, splits="train=all"), "train", tmp_path)
        assert "0 makes up 88% of the images" in overview.thin_notes(lopsided)[0]
        assert overview.brightness_notes([lopsided.image(0)])
        assert not overview.brightness_notes([np.full((2, 2, 3), 99, np.uint8)])


class TestArchives:
    def test_an_archive_that_fills_the_memory(self, tmp_path):
        path = tmp_path / "d.npz"
        header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (300000000,), }"
        header += b" " * (118 - len(header) - 1) + b"\n"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open("labels.npy", "w") as file:
                file.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
                for _ in range(300):
                    file.write(bytes(1_000_000))
            archive.writestr("images.npy", b"")
        assert path.stat().st_size < 1_000_000
        with pytest.raises(ItemError, match="unpacks to 286 MiB"):
            open_split(row(path), "train", tmp_path)

    def test_damage_anywhere_is_one_sentence(self, tmp_path):
        path = npz(tmp_path / "d.npz", np.arange(12) % 2)
        good = path.read_bytes()
        rng = np.random.default_rng(0)
        for _ in range(150):
            broken = bytearray(good)
            for place in rng.integers(0, len(good), rng.integers(1, 40)):
                broken[place] = rng.integers(256)
            path.write_bytes(bytes(broken[: rng.integers(1, len(good) + 1)] if rng.random() < 0.3 else broken))
            error = refused(path)
            assert error is None or (error.item == "d" and "\n" not in error.error)


class TestCopies:
    def test_images_that_swap_classes_change_the_fingerprint(self, tmp_path):
        for name, value in (("a", 1), ("b", 2)):
            (tmp_path / "d" / name).mkdir(parents=True)
            Image.new("L", (4, 4), value).save(tmp_path / "d" / name / "1.bmp")
        before = split_fingerprint(row(tmp_path / "d"), tmp_path)
        first, second = tmp_path / "d/a/1.bmp", tmp_path / "d/b/1.bmp"
        one, other = first.read_bytes(), second.read_bytes()
        assert len(one) == len(other)
        first.write_bytes(other)
        second.write_bytes(one)
        assert split_fingerprint(row(tmp_path / "d"), tmp_path) != before
        first.write_bytes(one)
        second.write_bytes(other)
        assert split_fingerprint(row(tmp_path / "d"), tmp_path) == before

    def test_copies_between_splits_and_under_two_labels_are_told(self, tmp_path):
        for split in ("train", "test"):
            classes(tmp_path / "d" / split, ["a", "b"])
        for name in ("train/a/a0.png", "train/a/a1.png", "train/b/b0.png"):
            content = (tmp_path / "d" / name).read_bytes()
            (tmp_path / "d/test/a" / f"copy_of_{name[-6:]}").write_bytes(content)
        told = notes(open_split(row(tmp_path / "d"), "train", tmp_path))
        # Both splits hold the same eight images, and three of them once more.
        assert "19 images have copies in another split" in told
        assert "3 images have a copy under another label" in told
        assert "11 of 19 images are copies of others" in told

    def test_copies_of_one_class_in_one_split_are_only_counted(self, tmp_path):
        classes(tmp_path / "d/train", ["a", "b"])
        classes(tmp_path / "d/test", ["b", "a"])
        (tmp_path / "d/train/a/again.png").write_bytes((tmp_path / "d/train/a/a0.png").read_bytes())
        told = notes(open_split(row(tmp_path / "d"), "train", tmp_path))
        assert "1 of 17 images are copies of others" in told
        assert "another" not in told

    def test_near_copies_and_an_easier_training_part(self):
        rng = np.random.default_rng(0)
        base = rng.integers(0, 256, (60, 4, 4, 3)).repeat(4, axis=1).repeat(4, axis=2)
        train = np.clip(base + rng.integers(-2, 3, base.shape), 0, 255).astype(np.uint8)
        labels = np.arange(60) % 2
        other = rng.integers(0, 256, (60, 4, 4, 3)).repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)
        assert pixel_notes(train, labels, other, labels) == pixel_notes(train, labels, other[:0], labels[:0]) == []
        mixed = other.copy()
        mixed[:5] = np.clip(base[:5] + rng.integers(-2, 3, base[:5].shape), 0, 255)
        assert "5 of 60 test images looked at are copies or near copies" in pixel_notes(train, labels, mixed, labels)[0]
        # Videos: ten frames of each of six scenes, and other scenes for testing.
        frames = train[:6].repeat(10, axis=0).astype(int) + rng.integers(-2, 3, (60, 16, 16, 3))
        found = pixel_notes(np.clip(frames, 0, 255).astype(np.uint8), np.repeat(labels[:6], 10), other, labels)
        assert any("much easier than the test part" in note for note in found)
        assert any("54 of 60 training images looked at are copies" in note for note in found)
        assert not any("another label" in note for note in found)
        # A few test images tell no difference.
        few = pixel_notes(np.clip(frames, 0, 255).astype(np.uint8), np.repeat(labels[:6], 10), other[:5], labels[:5])
        assert not any("much easier" in note for note in few)
        torn = pixel_notes(train[[*range(60), 7]], np.r_[labels, 0], other, labels)
        assert torn == [
            "2 of 61 training images looked at have a near copy under another label.",
            "1 of 61 training images looked at are copies or near copies of others.",
        ]

    def test_what_is_only_alike_is_no_copy(self):
        """Of equal shapes: brighter by some levels, or with other details; only what differs in noise is a copy."""
        rng = np.random.default_rng(0)
        base = rng.integers(60, 190, (30, 4, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)
        # A chequered pattern and its negative, which no mean of an area tells apart.
        chequered = 12 * (-1) ** np.indices((32, 32)).sum(0)[..., None]
        labels = np.arange(30) % 2
        whole = base + chequered
        same, brighter, finer = whole + rng.integers(-2, 3, base.shape), whole + 6, base - chequered
        test = np.concatenate([same[:5], brighter[5:15], finer[15:]])
        train, test = (np.clip(images, 0, 255).astype(np.uint8) for images in (whole, test))
        (note,) = pixel_notes(train, labels, test, labels)
        assert note.startswith("5 of 30 test images looked at are copies or near copies")

    def test_distances_by_loops(self):
        rng = np.random.default_rng(0)
        one, other = (rng.uniform(0, 255, (count, 27)).astype(np.float32) for count in (4, 3))
        expected = [[np.square(first - second).mean() for second in other] for first in one]
        np.testing.assert_allclose(distances(one, other), expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["a" * 240, "é" * 60, "a\x1b[2J\nb", "torn \udce9", "."])
def test_any_name_has_an_identifier_near_it(name):
    found = check_id(nearest_id(name))
    assert found
    assert nearest_id(found) == found
    assert nearest_id("my photos") == "my photos"


def test_identifiers_that_make_too_long_file_names_are_refused():
    check_id("é" * 30)
    for name in ("é" * 80, "a" * 201, "a\x1b[2J"):
        with pytest.raises(ValueError, match=r"must be printable|as an encoded file name"):
            check_id(name)


class TestFrames:
    def test_animations_and_documents_are_counted_by_format(self, tmp_path):
        red, green = (Image.new("RGB", (12, 12), COLOURS[name]) for name in ("red", "green"))
        for part, names in (("train", ("red.gif", "red.tiff", "red.webp", "red_too.gif")), ("test", ("red.png",))):
            classes(tmp_path / "d" / part, ("red", "blue"))
            for name in names:
                red.save(tmp_path / "d" / part / "red" / name, save_all=True, append_images=[green], lossless=True)
        (tmp_path / "d" / "test" / "red" / "torn.gif").write_bytes(b"GIF89a")
        found = open_dataset(row(tmp_path / "d"), tmp_path).split("train")
        told = [note.error for note in found.warnings if isinstance(note, FileNote) and "frame" in note.error]
        assert told == ["files with more than one frame: 2 GIF, 1 PNG, 1 TIFF, 1 WEBP; the first frame is read."]
        reds = [found.image(int(i)) for i in np.flatnonzero(found.labels == found.class_names.index("red"))]
        assert all(image[..., 0].mean() > image[..., 1].mean() for image in reds)

    def test_what_is_true_of_both_splits_is_told_once(self, tmp_path):
        classes(tmp_path / "d", ("red", "green"))
        frames = [Image.new("RGB", (12, 12), colour) for colour in ("red", "blue")]
        frames[0].save(tmp_path / "d" / "red" / "moving.gif", save_all=True, append_images=frames[1:])
        told = []
        load_task_images(row(tmp_path / "d"), tmp_path, warnings=told)
        assert [note.error for note in told if "frame" in note.error] == [
            "files with more than one frame: 1 GIF; the first frame is read."
        ]

    def test_plain_files_are_no_note(self, tmp_path):
        classes(tmp_path / "d", ("red", "green"))
        Image.new("RGB", (12, 12)).save(tmp_path / "d" / "red" / "still.gif")
        assert "frame" not in notes(open_split(row(tmp_path / "d"), "train", tmp_path))


def test_large_files_are_told_apart_by_size_and_pieces_and_small_ones_by_all_that_they_hold(tmp_path):
    """The key of images under which tries are kept: of a hundred gigabytes it can't read every byte in an answer."""
    path, content = tmp_path / "photo.jpg", bytearray(1 << 18)
    path.write_bytes(content)
    first, other = sampled_digest(path), {}
    for place in (0, 90_000, 1 << 17, len(content) - 1):
        content[place] ^= 1
        path.write_bytes(content)
        other[place] = sampled_digest(path) != first
        content[place] ^= 1
    # What lies between the pieces isn't seen.
    assert other == {0: True, 90_000: True, 1 << 17: False, len(content) - 1: True}
    path.write_bytes(content + b"0")
    assert sampled_digest(path) != first
    path.write_bytes(content[: 1 << 17])
    assert sampled_digest(path) == content_digest(path)
    path.unlink()
    assert sampled_digest(path) == content_digest(path)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((10, 10), []),
        ((9, 10), ["few images: c0 have less than 10"]),
        ((40, 10), []),
        ((41, 10), ["c0 makes up 80% of the images"]),
        ((0, 41), []),
        ((10,) * 100, []),
        ((10,) * 101, ["101 classes are many"]),
    ],
)
def test_each_bound_is_where_it_is_said_to_be(counts, said):
    names = [f"c{i}" for i in range(len(counts))]
    images = SimpleNamespace(labels=np.repeat(np.arange(len(counts)), counts), class_names=names)
    found = overview.thin_notes(images)
    assert [note[: len(start)] for note, start in zip(found, said, strict=True)] == said


def test_nearly_black_or_white_are_all_or_none():
    level = [np.full((2, 2, 3), value, np.uint8) for value in (15, 16, 245, 246)]
    for shown, said in (([0, 0], "black"), ([0, 1], ""), ([3, 3], "white"), ([2, 3], ""), ([], "")):
        found = overview.brightness_notes([level[i] for i in shown])
        assert len(found) == bool(said)
        assert all(said in note for note in found)


def test_classes_that_are_only_numbered_have_no_names():
    for names in (["1", "2"], ["class 3", "Label-4"], ["n01440764", "n01443537"]):
        assert f"The classes are called {names[0]}, {names[1]}" in overview.nameless_notes(names)[0]
    assert overview.nameless_notes(["1", "cat"]) == []


class TestNumbers:
    def test_labels_that_count_from_one_are_positions_from_there(self):
        given = {"train": np.array([1, 2, 3, 1])}
        found = make_vocabulary("d", given, ["a", "b", "c"])
        assert [found.names[code] for code in found.codes["train"]] == ["a", "b", "c", "a"]
        assert found.notes == ("labels in 'train' count from 1: 1 is 'a'.",)
        with pytest.raises(ItemError, match="labels from 0 to 3 in 'train' don't fit 3 class names"):
            make_vocabulary("d", {"train": np.array([0, 1, 3])}, ["a", "b", "c"])

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_pixels_of_one_three_and_four_channels_are_read(self, tmp_path, channels):
        pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 6, channels)).astype(np.uint8)
        pixels[..., 3:] = 255
        path = npz(tmp_path / "d.npz", [0, 1, 0, 1], pixels)
        images = open_split(row(path, splits="train=all"), "train", tmp_path)
        np.testing.assert_array_equal(images.image(1), np.broadcast_to(pixels[1, ..., :3], (6, 6, 3)))

    @pytest.mark.parametrize("names", [np.array([["a", "b"]]), np.array([1, 2])])
    def test_names_that_are_no_row_of_texts_are_refused(self, tmp_path, names):
        assert "class_names has the shape" in refused(npz(tmp_path / "d.npz", [0, 1], class_names=names)).error
