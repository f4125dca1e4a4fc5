"""Networks of the thesis code say what they said, or why they can't."""

import math

import numpy as np
import pandas as pd
import pytest

from thesis_rec.base.errors import ItemError
from thesis_rec.catalog.validators import validate_checkpoint
from thesis_rec.thesis import thesis_artefacts


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

        from thesis_rec.models.auto_encoder import embed_vectors

        torch.manual_seed(0)
        network = self.network(dropout).eval()
        torch.save(network.state_dict(), tmp_path / "autoencoder_weights.loss_0.01.pt")
        raw = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
        vectors = {f"m{i}": {"parameters": vector} for i, vector in enumerate(raw)}
        found = thesis_artefacts.import_autoencoder(tmp_path / "autoencoder_weights.loss_0.01.pt", vectors)
        validate_checkpoint(found)
        standardised = torch.from_numpy((raw - raw.mean(0)) / raw.std(0))
        with torch.inference_mode():
            expected = network["encoder"](standardised).numpy()
        np.testing.assert_allclose(embed_vectors(found, raw), expected, atol=1e-5)
        assert any(name.startswith("decoder") for name in found["network"])

    def test_a_decoder_that_is_no_mirror_is_left_out(self, tmp_path):
        import torch

        torch.save(self.network(0.0, decoder=(8,)).state_dict(), tmp_path / "a.pt")
        found = thesis_artefacts.import_autoencoder(tmp_path / "a.pt", {}, "gelu", normalise=False)
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
                thesis_artefacts.import_autoencoder(tmp_path / name, vectors)
        with pytest.raises(ItemError, match="takes vectors of 8"):
            thesis_artefacts.import_autoencoder(tmp_path / "a.pt", {"m": {"parameters": np.ones(5)}})


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
        embeddings = thesis_artefacts.embeddings_table(
            {name: rng.normal(size=6).astype(np.float32) for name in ("a", "b", "c")}, "here"
        )
        shards = {f"{name}/train/00000": {"features": rng.normal(size=(2, 4, 5))} for name in ("x", "y")}
        found = thesis_artefacts.import_transformer(tmp_path / "t.pt", embeddings, shards, n_heads=2)
        assert len(found) == 6
        assert set(found["source"]) == {"thesis"}
        for _, table in found.groupby("dataset_id"):
            assert table.sort_values("score", ascending=False)["rank"].tolist() == [1, 2, 3]
        again = thesis_artefacts.import_transformer(tmp_path / "t.pt", embeddings, shards, n_heads=2)
        pd.testing.assert_frame_equal(found, again)
        other = thesis_artefacts.import_transformer(tmp_path / "t.pt", embeddings, shards, n_heads=4)
        assert not np.allclose(other["score"], found["score"])

    def test_what_does_not_fit_is_refused(self, tmp_path):
        import torch

        torch.save(self.state("classifier"), tmp_path / "t.pt")
        torch.save({"w": torch.ones(2)}, tmp_path / "other.pt")
        two = thesis_artefacts.embeddings_table({n: np.ones(6, np.float32) for n in "ab"}, "here")
        wide = thesis_artefacts.embeddings_table({n: np.ones(7, np.float32) for n in "abc"}, "here")
        shards = {"x/train/00000": {"features": np.ones((1, 4, 5))}}
        for name, table, tokens, message in (
            ("other.pt", two, shards, "no similarity transformer"),
            ("t.pt", two, shards, "one score for each of 3 models"),
            ("t.pt", wide, shards, "embeddings of 6"),
            ("t.pt", wide.iloc[:0], {}, "needs embeddings and tokens"),
        ):
            with pytest.raises(ItemError, match=message):
                thesis_artefacts.import_transformer(tmp_path / name, table, tokens)
