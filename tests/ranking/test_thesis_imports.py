"""Files of the thesis code come in whole, or say why not."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thesis_rec.catalog.validators import (
    validate_autoencoder_checkpoint,
    validate_dataset_tokens,
    validate_model_embeddings,
    validate_model_vectors,
    validate_performance_records,
)
from thesis_rec.errors import ItemError
from thesis_rec.ranking import thesis_imports


def put(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def cells(records):
    return {(r.model_id, r.dataset_id): round(r.value, 6) for r in records.itertuples()}


def test_performance_as_the_thesis_code_writes_it(tmp_path):
    content = {
        "MNIST": [{"model_name": "org/a", "accuracy": 0.99}, {"model_name": "org/b", "accuracy": 0.5}],
        "Fashion-MNIST": [{"model_name": "org/c", "accuracy": 0.9}],
    }
    performance = thesis_imports.import_thesis_performance(put(tmp_path / "p.json", content))
    assert cells(performance) == {("org/a", "MNIST"): 0.99, ("org/b", "MNIST"): 0.5, ("org/c", "Fashion-MNIST"): 0.9}
    similarity = thesis_imports.read_similarity(
        put(tmp_path / "s.json", {"mnist": {"fashion mnist": 0.4}, "fashion_mnist": {"mnist": 0.3}})
    )
    found = cells(thesis_imports.proxy_performance(performance, similarity))
    # The target's row counts, and names are matched however they are written.
    assert found["org/c", "MNIST"] == pytest.approx(0.9 * 0.4 / 2)
    assert found["org/a", "Fashion-MNIST"] == pytest.approx(0.99 * 0.3 / 2)
    assert found["org/a", "MNIST"] == pytest.approx(1.99 / 2)
    with pytest.raises(ItemError, match="without model_name"):
        thesis_imports.import_thesis_performance(put(tmp_path / "p.json", {"mnist": [{"accuracy": 1.0}]}))


def test_shards_in_folders_of_datasets_and_splits(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(2):
        path = tmp_path / "mnist" / "validation" / f"shard_{number}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Class names were pickled objects there; they are never unpickled.
        np.savez(path, features=rng.normal(size=(3, 4, 8)), class_names=np.array(list("abcd"), dtype=object))
    np.savez(tmp_path / "org%2Fa_embedding.npz", embedding=np.ones(512))
    _, embeddings, shards = thesis_imports.import_arrays(tmp_path)
    validate_dataset_tokens(shards)
    assert set(shards) == {"mnist/validation/00000", "mnist/validation/00001"}
    assert {int(shard["n_shards"]) for shard in shards.values()} == {2}
    assert {int(shard["n_images"]) for shard in shards.values()} == {24}
    assert shards["mnist/validation/00000"]["class_names"][0] == "class 0"
    assert embeddings["model_id"].tolist() == ["org/a"]


class TestAutoencoder:
    """The thesis code's layout: linear layers with an activation, and a dropout only where there is any, between."""

    @staticmethod
    def network(dropout, decoder=(6, 8)):
        from itertools import pairwise

        from torch import nn

        def layers(widths):
            parts = []
            for place, (a, b) in enumerate(pairwise(widths)):
                parts.append(nn.Linear(a, b))
                if place < len(widths) - 2:
                    parts += [nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
            return nn.Sequential(*parts)

        return nn.ModuleDict({"encoder": layers((8, 6, 4, 3)), "decoder": layers((3, 4, *decoder))})

    @pytest.mark.parametrize("dropout", [0.0, 0.2])
    def test_it_embeds_as_it_did(self, dropout, tmp_path):
        import torch

        from thesis_rec.networks import embed_vectors

        torch.manual_seed(0)
        network = self.network(dropout).eval()
        torch.save(network.state_dict(), tmp_path / "autoencoder_weights.loss_0.01.pt")
        raw = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
        vectors = {f"m{i}": {"parameters": vector} for i, vector in enumerate(raw)}
        found = thesis_imports.import_autoencoder(tmp_path / "autoencoder_weights.loss_0.01.pt", vectors)
        validate_autoencoder_checkpoint(found)
        standardised = torch.from_numpy((raw - raw.mean(0)) / raw.std(0))
        with torch.inference_mode():
            expected = network["encoder"](standardised).numpy()
        np.testing.assert_allclose(embed_vectors(found, raw), expected, atol=1e-5)
        assert any(name.startswith("decoder") for name in found["network"])

    def test_a_decoder_that_is_no_mirror_is_left_out(self, tmp_path):
        import torch

        torch.save(self.network(0.0, decoder=(8,)).state_dict(), tmp_path / "a.pt")
        found = thesis_imports.import_autoencoder(tmp_path / "a.pt", {}, "gelu", normalise=False)
        assert not any(name.startswith("decoder") for name in found["network"])
        assert found["config"]["hidden"] == [6, 4]

    def test_other_files_are_refused(self, tmp_path):
        import torch

        torch.save({"weight": torch.ones(2)}, tmp_path / "other.pt")
        torch.save(self.network(0.0).state_dict(), tmp_path / "a.pt")
        (tmp_path / "evil.pt").write_bytes(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
        cases = {
            "other.pt": ({}, "no autoencoder"),
            "a.pt": ({}, "no vectors"),
            "evil.pt": ({}, "pickled code"),
        }
        for name, (vectors, message) in cases.items():
            with pytest.raises(ItemError, match=message):
                thesis_imports.import_autoencoder(tmp_path / name, vectors)
        with pytest.raises(ItemError, match="takes vectors of 8"):
            thesis_imports.import_autoencoder(tmp_path / "a.pt", {"m": {"parameters": np.ones(5)}})


def test_thesis_files_and_the_proxy(tmp_path):
    performance = thesis_imports.import_thesis_performance(
        put(tmp_path / "p.json", {"mnist": {"m1": 99.0, "m2": {"accuracy": 80.0}}, "svhn": {"m2": 90.0}})
    )
    assert cells(performance)[("m2", "mnist")] == 0.8
    similarity = thesis_imports.read_similarity(put(tmp_path / "s.json", {"mnist": {"svhn": 0.5, "usps": 0.9}}))
    assert similarity["usps"]["mnist"] == 0.9
    proxy = thesis_imports.proxy_performance(performance, similarity)
    validate_performance_records(proxy)
    assert set(proxy["protocol"]) == {"proxy"}
    found = cells(proxy)
    # Own accuracy times similarity, halved; plus one (halved) on the own dataset.
    assert found[("m1", "usps")] == pytest.approx(0.99 * 0.9 / 2)
    assert found[("m1", "mnist")] == pytest.approx((0.99 + 1) / 2)
    # m2 was trained on both: the larger proxy counts.
    assert found[("m2", "svhn")] == pytest.approx((0.9 + 1) / 2)
    assert ("m2", "imagenet") not in found


@given(st.floats(0.01, 1), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=25)
def test_proxy_orders_as_the_original_formula(accuracy, near, far):
    table = pd.DataFrame({"model_id": ["m"], "dataset_id": ["own"], "value": [accuracy]})
    found = cells(thesis_imports.proxy_performance(table, {"own": {"near": near, "far": far}}))
    assert (found["m", "near"] - found["m", "far"]) * (near - far) >= -1e-6
    assert found["m", "own"] >= found["m", "near"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "no JSON object"),
        ({"a": 3}, "int under"),
        ({"a": {"b": "x"}}, "no number"),
        ({"a": [3]}, "without model_name"),
        ("{", "can't be read"),
        ({}, "no perf"),
    ],
)
def test_bad_thesis_files(tmp_path, content, message):
    with pytest.raises(ItemError, match=message):
        thesis_imports.import_thesis_performance(put(tmp_path / "p.json", content))


def test_similarity_out_of_range(tmp_path):
    with pytest.raises(ItemError, match=r"0\.\.1"):
        thesis_imports.read_similarity(put(tmp_path / "s.json", {"a": {"b": 3}}))


def test_arrays_of_all_three_kinds(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "timm%2Fa.npz", parameters=rng.normal(size=8000), embedding=rng.normal(size=512))
    np.savez(tmp_path / "b.npz", parameters=rng.normal(size=8192).astype(np.float32), embedding=rng.normal(size=512))
    np.savez(tmp_path / "mnist.npz", features=3 * rng.normal(size=(4, 10, 16)), class_names=np.arange(10).astype(str))
    np.savez(tmp_path / "flat.npz", features=rng.normal(size=(5, 16)))
    vectors, embeddings, shards = thesis_imports.import_arrays(tmp_path)
    validate_model_vectors(vectors)
    validate_model_embeddings(embeddings)
    validate_dataset_tokens(shards)
    assert set(vectors) == {"timm/a", "b"}
    assert vectors["timm/a"]["parameters"][8000:].max() == 0
    assert set(shards) == {"mnist/train/00000", "flat/train/00000"}
    assert shards["mnist/train/00000"]["class_names"][3] == "3"
    assert shards["flat/train/00000"]["features"].shape == (1, 5, 16)


def test_imported_tokens_are_read_by_the_loader(tmp_path):
    from thesis_rec.images.manifest import DatasetRow
    from thesis_rec.images.tokens import load_task_tokens

    np.savez(tmp_path / "mnist.npz", features=np.random.default_rng(0).normal(size=(4, 10, 16)))
    _, _, shards = thesis_imports.import_arrays(tmp_path)
    row = DatasetRow(dataset_id="mnist", loader="npz", source="x")
    tokens = load_task_tokens(shards, [row])
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
        thesis_imports.import_arrays(tmp_path)


def test_pickled_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", parameters=np.array([{"evil": 1}], dtype=object))
    with pytest.raises(ItemError, match="can't be read"):
        thesis_imports.import_arrays(tmp_path)


def test_embeddings_of_different_lengths(tmp_path):
    np.savez(tmp_path / "a.npz", embedding=np.ones(4))
    np.savez(tmp_path / "b.npz", embedding=np.ones(5))
    with pytest.raises(ItemError, match="lengths"):
        thesis_imports.import_arrays(tmp_path)


class TestTransformer:
    """Both layouts that the thesis code's SimilarityTransformerModel had."""

    @staticmethod
    def state(heads):
        import torch
        from torch import nn
        from transformers import BertConfig, BertModel

        torch.manual_seed(0)
        width = 16
        bert = BertModel(
            BertConfig(
                hidden_size=width, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
                vocab_size=1, type_vocab_size=1, max_position_embeddings=40,
            )
        )  # fmt: skip
        parts = nn.ModuleDict({"transformer": bert})
        parts.update({"model_proj": nn.Linear(6, width), "dataset_proj": nn.Linear(5, width)})
        if heads == "classifier":
            parts["classifier"] = nn.Sequential(nn.LayerNorm(width), nn.Dropout(0.1), nn.Linear(width, 3))
            return dict(parts.state_dict()) | {"cls_token": torch.randn(1, 1, width)}
        for name, dim in (("model_input_norm", 6), ("dataset_input_norm", 5)):
            parts[name] = nn.LayerNorm(dim)
        for name in ("model_hidden_norm", "dataset_hidden_norm", "output_norm"):
            parts[name] = nn.LayerNorm(width)
        for name in ("dataset_head", "model_head"):
            parts[name] = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        more = {"cls_token": torch.randn(1, 1, width), "log_temperature": torch.tensor(math.log(0.07))}
        return dict(parts.state_dict()) | more

    @pytest.mark.parametrize("heads", ["classifier", "similarity"])
    def test_it_scores_every_model_for_every_dataset(self, heads, tmp_path):
        import torch

        torch.save(self.state(heads), tmp_path / "t.pt")
        rng = np.random.default_rng(0)
        embeddings = thesis_imports.embeddings_table(
            {name: rng.normal(size=6).astype(np.float32) for name in ("a", "b", "c")}, "here"
        )
        shards = {f"{name}/train/00000": {"features": rng.normal(size=(2, 4, 5))} for name in ("x", "y")}
        found = thesis_imports.import_transformer(tmp_path / "t.pt", embeddings, shards, n_heads=2)
        assert len(found) == 6
        assert set(found["source"]) == {"thesis"}
        for _, table in found.groupby("dataset_id"):
            assert table.sort_values("score", ascending=False)["rank"].tolist() == [1, 2, 3]
        again = thesis_imports.import_transformer(tmp_path / "t.pt", embeddings, shards, n_heads=2)
        pd.testing.assert_frame_equal(found, again)
        other = thesis_imports.import_transformer(tmp_path / "t.pt", embeddings, shards, n_heads=4)
        assert not np.allclose(other["score"], found["score"])

    def test_what_does_not_fit_is_refused(self, tmp_path):
        import torch

        torch.save(self.state("classifier"), tmp_path / "t.pt")
        torch.save({"w": torch.ones(2)}, tmp_path / "other.pt")
        two = thesis_imports.embeddings_table({n: np.ones(6, np.float32) for n in "ab"}, "here")
        wide = thesis_imports.embeddings_table({n: np.ones(7, np.float32) for n in "abc"}, "here")
        shards = {"x/train/00000": {"features": np.ones((1, 4, 5))}}
        for name, table, tokens, message in (
            ("other.pt", two, shards, "no similarity transformer"),
            ("t.pt", two, shards, "one score for each of 3 models"),
            ("t.pt", wide, shards, "embeddings of 6"),
            ("t.pt", wide.iloc[:0], {}, "needs embeddings and tokens"),
        ):
            with pytest.raises(ItemError, match=message):
                thesis_imports.import_transformer(tmp_path / name, table, tokens)
