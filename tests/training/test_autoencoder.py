"""Training and judging the autoencoder."""

import numpy as np
import pandas as pd
import pytest
import torch

from thesis_rec.base.errors import NothingSucceeded
from thesis_rec.models.auto_encoder import embed_vectors, encoder_half
from thesis_rec.training.autoencoder import (
    AutoEncoderModule,
    evaluate_autoencoder,
    map_positions,
    nearest_codes,
    split_known,
    train_autoencoder,
)
from thesis_rec.training.autoencoder import embedding_map as draw_map
from thesis_rec.training.settings import AutoEncoderPlan, AutoEncoderSettings, FitSettings

LENGTH = 64


@pytest.fixture(scope="module")
def zoo():
    """Three families, each with a pattern of its own that its members scale."""
    rng = np.random.default_rng(0)
    vectors, families = {}, {}
    for family in ("conv", "mixer", "vit"):
        pattern = rng.normal(size=(2, LENGTH))
        for index in range(12):
            name = f"{family}_{index}"
            vectors[name] = (rng.normal(size=2) @ pattern + 2 * pattern[0]).astype(np.float32)
            families[name] = family
    return vectors, families


@pytest.fixture(scope="module")
def trained(zoo, tmp_path_factory):
    vectors, families = zoo
    known = split_known(sorted(vectors), {"model_families": ["vit"]}, families)
    plan = AutoEncoderPlan(
        network=AutoEncoderSettings(hidden=[16], n_code=8),
        fit=FitSettings(epochs=60, batch_size=8, learning_rate=0.02, checkpoint_every=20, accelerator="cpu"),
        validation_share=0.2,
        seed=1,
    )
    return train_autoencoder(vectors, known, plan, tmp_path_factory.mktemp("run"))


def test_unknown_models_are_left_out_by_id_and_by_family():
    families = {"a": "x", "b": "x", "c": "y", "d": "z"}
    assert split_known(list("abcd"), {"model_families": ["y"], "model_ids": ["b"]}, families) == ["a", "d"]
    assert split_known(list("abcd"), {}, families) == list("abcd")


def test_only_known_models_enter_normalisation_and_training(zoo, trained):
    vectors, _ = zoo
    checkpoint = trained
    used = [*checkpoint["train_ids"], *checkpoint["validation_ids"]]
    assert len(used) == 24
    assert not any(model.startswith("vit") for model in used)
    mean = np.mean([vectors[model] for model in checkpoint["train_ids"]], 0)
    np.testing.assert_allclose(checkpoint["network"]["mean"].numpy(), mean, atol=1e-5)


def test_training_reduces_the_error(trained):
    assert trained["history"][-1]["val_loss"] < 0.6 * trained["history"][0]["val_loss"]


def test_the_evaluation_tells_known_from_unknown(zoo, trained):
    vectors, families = zoo
    evaluation = evaluate_autoencoder(trained, vectors, families)
    roles = evaluation["roles"]
    assert [roles[role]["n"] for role in ("train", "validation", "unknown")] == [19, 5, 12]
    assert roles["train"]["mean"] < 0.3
    assert roles["unknown"]["mean"] > roles["train"]["mean"]
    assert evaluation["families"]["vit"]["n"] == 12
    assert evaluation["neighbour_agreement"]["own_family"] > evaluation["neighbour_agreement"]["chance"]
    entry = evaluation["models"]["vit_0"]
    assert entry["role"] == "unknown"
    assert len(entry["nearest"]) == 3
    assert "vit_0" not in entry["nearest"]


def test_the_encoder_half_embeds_like_the_whole(zoo, trained):
    vectors, _ = zoo
    stacked = np.stack(list(vectors.values()))
    whole = embed_vectors(trained, stacked)
    assert whole.shape == (36, 8)
    half = encoder_half(trained)
    assert not any(name.startswith("decoder") for name in half["network"])
    np.testing.assert_allclose(embed_vectors(half, stacked), whole, atol=0.02 * np.abs(whole).max())


def test_a_foreign_checkpoint_is_refused(trained):
    broken = {**trained, "network": {k: v for k, v in trained["network"].items() if k != "encoder.0.weight"}}
    with pytest.raises(RuntimeError, match=r"encoder\.0\.weight"):
        embed_vectors(broken, np.zeros((1, LENGTH), np.float32))


def test_too_few_models_say_what_to_do(tmp_path):
    with pytest.raises(NothingSucceeded, match="model_extraction"):
        train_autoencoder({}, [], AutoEncoderPlan(), tmp_path)


def test_masking_hides_whole_blocks_and_only_in_training():
    from thesis_rec.models.auto_encoder import AutoEncoder

    options = AutoEncoderSettings(mask=0.5, mask_block=8, hidden=[4], n_code=2)
    module = AutoEncoderModule(AutoEncoder(20, (4,), 2), FitSettings(), options)
    torch.manual_seed(0)
    corrupted = module.corrupt(torch.ones(200, 20))
    blocks = [corrupted[:, :8], corrupted[:, 8:16], corrupted[:, 16:]]
    assert all(((block == block[:, :1]).all(1)).all() for block in blocks)
    assert 0.4 < corrupted.mean() < 0.6
    batch = {"vectors": torch.ones(2, 20)}
    assert module.losses(batch, training=False)["loss"] == module.losses(batch, training=False)["loss"]


def test_smooth_l1_and_sparsity_are_what_they_say():
    from thesis_rec.models.auto_encoder import AutoEncoder

    network = AutoEncoder(20, (4,), 2).eval()
    x = torch.randn(5, 20) * 3
    reconstruction, code = network(x)
    options = AutoEncoderSettings(loss="smooth_l1", l1=0.5, hidden=[4], n_code=2)
    losses = AutoEncoderModule(network, FitSettings(), options).losses({"vectors": x}, training=False)
    difference = (reconstruction - x).abs()
    expected = torch.where(difference < 1, 0.5 * difference.square(), difference - 0.5).mean()
    assert losses["reconstruction"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses["loss"].item() == pytest.approx((expected + 0.5 * code.abs().mean()).item(), rel=1e-5)


def test_nearest_codes_are_those_of_an_exhaustive_search():
    codes = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    centred = codes - codes.mean(0)
    for row, found in enumerate(nearest_codes(codes, 2)):
        cosine = [
            -np.inf if i == row else centred[row] @ c / np.linalg.norm(centred[row]) / np.linalg.norm(c)
            for i, c in enumerate(centred)
        ]
        assert found == np.argsort(cosine)[::-1][:2].tolist()
    assert nearest_codes(codes[:1], 3) == [[]]


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_the_map_separates_what_is_far_apart(method):
    rng = np.random.default_rng(0)
    codes = np.concatenate([rng.normal(size=(8, 5)), rng.normal(size=(8, 5)) + 20]).astype(np.float32)
    places = map_positions(codes, method, seed=0)
    assert places.shape == (16, 2)
    gap = np.linalg.norm(places[:8].mean(0) - places[8:].mean(0))
    assert gap > 2 * places[:8].std(0).max()


def test_a_map_of_very_few_models_is_drawn(zoo):
    assert map_positions(np.ones((1, 4), np.float32), "tsne", 0).shape == (1, 2)
    models = pd.DataFrame({"family": ["x", "x", ""], "role": "train"}, index=list("abc"))
    figure = draw_map(np.eye(3, dtype=np.float32), models, "pca", 0)
    assert [(trace.name, list(trace.hovertext)) for trace in figure.data] == [
        ("x, train", ["a", "b"]), ("no family, train", ["c"])
    ]  # fmt: skip
