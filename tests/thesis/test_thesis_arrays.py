"""NPZ files of the thesis code come in whole, or say why not."""

import numpy as np
import pytest

from thesis_rec.base.errors import ItemError
from thesis_rec.catalog.validators import validate_model_embeddings, validate_model_vector, validate_token_shard
from thesis_rec.thesis import thesis_artefacts


def test_shards_in_folders_of_datasets_and_splits(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(2):
        path = tmp_path / "mnist" / "validation" / f"shard_{number}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Class names were pickled objects there; they are never unpickled.
        np.savez(path, features=rng.normal(size=(3, 4, 8)), class_names=np.array(list("abcd"), dtype=object))
    np.savez(tmp_path / "org%2Fa_embedding.npz", embedding=np.ones(512))
    _, embeddings, shards = thesis_artefacts.import_arrays(tmp_path)
    for shard in shards.values():
        validate_token_shard(shard)
    assert set(shards) == {"mnist/validation/00000", "mnist/validation/00001"}
    assert {int(shard["n_shards"]) for shard in shards.values()} == {2}
    assert {int(shard["n_images"]) for shard in shards.values()} == {24}
    assert shards["mnist/validation/00000"]["class_names"][0] == "class 0"
    assert embeddings["model_id"].tolist() == ["org/a"]


def test_labels_name_the_classes_where_class_names_were_pickled(tmp_path):
    pickled, labels = np.array(list("abcd"), dtype=object), np.array(list("wxyz"))
    np.savez(tmp_path / "mnist.npz", features=np.ones((3, 4, 8)), class_names=pickled, labels=labels, encoder_id="clip")
    (shard,) = thesis_artefacts.import_arrays(tmp_path)[2].values()
    assert shard["class_names"].tolist() == list("wxyz")
    assert str(shard["encoder_id"]) == "clip"


def test_arrays_of_all_three_kinds(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "timm%2Fa.npz", parameters=rng.normal(size=8000), embedding=rng.normal(size=512))
    np.savez(tmp_path / "b.npz", parameters=rng.normal(size=8192).astype(np.float32), embedding=rng.normal(size=512))
    np.savez(tmp_path / "mnist.npz", features=3 * rng.normal(size=(4, 10, 16)), class_names=np.arange(10).astype(str))
    np.savez(tmp_path / "flat.npz", features=rng.normal(size=(5, 16)))
    vectors, embeddings, shards = thesis_artefacts.import_arrays(tmp_path)
    for vector in vectors.values():
        validate_model_vector(vector)
    validate_model_embeddings(embeddings)
    for shard in shards.values():
        validate_token_shard(shard)
    assert set(vectors) == {"timm/a", "b"}
    assert vectors["timm/a"]["parameters"][8000:].max() == 0
    assert set(shards) == {"mnist/train/00000", "flat/train/00000"}
    assert shards["mnist/train/00000"]["class_names"][3] == "3"
    assert shards["flat/train/00000"]["features"].shape == (1, 5, 16)


def test_imported_tokens_are_read_by_the_loader(tmp_path):
    from thesis_rec.images.manifest import DatasetRow
    from thesis_rec.views.tokens import load_task_tokens

    np.savez(tmp_path / "mnist.npz", features=np.random.default_rng(0).normal(size=(4, 10, 16)))
    _, _, shards = thesis_artefacts.import_arrays(tmp_path)
    row = DatasetRow(dataset_id="mnist", loader="npz", source="x")
    tokens, _ = load_task_tokens({key: lambda shard=shard: shard for key, shard in shards.items()}, [row])
    assert tokens["mnist"].features.shape == (4, 10, 16)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"parameters": np.zeros(8192)}, "finite vector"),
        ({"parameters": np.ones(9000)}, "finite vector"),
        ({"embedding": np.array([np.nan])}, "not finite"),
        ({"features": np.zeros((2, 3, 4))}, "all zero"),
        ({"features": np.ones(5)}, "shape"),
        ({"other": np.ones(5)}, "no NPZ file"),
    ],
)
def test_bad_arrays(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ItemError, match=message):
        thesis_artefacts.import_arrays(tmp_path)


def test_pickled_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", parameters=np.array([{"evil": 1}], dtype=object))
    with pytest.raises(ItemError, match="can't be read"):
        thesis_artefacts.import_arrays(tmp_path)


def test_embeddings_of_different_lengths(tmp_path):
    np.savez(tmp_path / "a.npz", embedding=np.ones(4))
    np.savez(tmp_path / "b.npz", embedding=np.ones(5))
    with pytest.raises(ItemError, match="lengths"):
        thesis_artefacts.import_arrays(tmp_path)
