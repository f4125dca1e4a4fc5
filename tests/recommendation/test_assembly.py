from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.fabricated import DEVICE, N_MODELS, fabricated_bundle
from tests.views.small_tokens import Kept
from thesis_rec.base.tables import TaskTokens
from thesis_rec.models.auto_encoder import AutoEncoder
from thesis_rec.recommendation.asking import believed, recommend_known
from thesis_rec.recommendation.bundle import assemble, read_bundle, write_bundle
from thesis_rec.recommendation.neighbours import reasons
from thesis_rec.recommendation.request import Request


@pytest.fixture(scope="module")
def bundle():
    return fabricated_bundle()


def own_artefacts(bundle, **changes):
    embeddings = pd.DataFrame(bundle.models.embedding)
    embeddings.insert(0, "model_id", bundle.models.model_ids)
    shards = {}
    for name, tokens in bundle.tokens.items():
        shards[f"{name}/train/00000"] = Kept({
            "features": tokens.features.astype(np.float16), "class_ids": np.arange(4), "n_shards": np.int64(1),
            "class_names": np.array(tokens.class_names), "n_images": np.int64(40), "shard": np.int64(0),
            "encoder_id": np.array("fabricated"), "settings_hash": np.array("x"),
        })  # fmt: skip
    metadata = pd.DataFrame({"model_id": bundle.models.model_ids, "n_parameters": bundle.models.n_parameters})
    found = {
        "stored": None, "knowledge": bundle.knowledge.to_arrays(), "model_embeddings": embeddings,
        "model_metadata": metadata, "dataset_tokens": shards, "performance": bundle.performance,
        "hardware_profiles": bundle.profiles,
    }  # fmt: skip
    return {**found, **changes}


def datasets(bundle):
    return pd.DataFrame({
        "dataset_id": list(bundle.tokens), "loader": "npz", "source": "x.npz", "domain": "shapes",
        "group": "structured",
    })  # fmt: skip


def joined(bundle, artefacts):
    return assemble(bundle.manifest, datasets(bundle), artefacts)


def test_one_s_own_artefacts_become_a_bundle(bundle):
    found = joined(bundle, own_artefacts(bundle))
    assert found.models.model_ids == bundle.models.model_ids
    np.testing.assert_allclose(found.models.n_parameters, bundle.models.n_parameters)
    assert list(found.tokens) == list(bundle.tokens)
    assert found.sources["knowledge"] == "own"
    assert found.sources["hardware profiles"] == "own"
    answer = recommend_known("d2", found, Request(device=DEVICE, measure=False))
    assert len(answer.table) == N_MODELS
    assert answer.dataset_id == "d2"
    # Nothing that was measured on it is told.
    assert not answer.table["reason"].str.contains(" on d2").any()
    assert "d2" not in set(answer.nearest["dataset_id"])


def test_the_stored_bundle_gives_the_same_answer(bundle, tmp_path):
    own = joined(bundle, own_artefacts(bundle))
    write_bundle(own, tmp_path)
    artefacts = {"stored": read_bundle(tmp_path), "published_hardware_profiles": bundle.profiles}
    stored = joined(bundle, artefacts)
    assert stored.sources["knowledge"] == "starter"
    assert stored.sources["hardware profiles"] == "starter"
    one, other = (recommend_known("d1", b, Request(device=DEVICE, measure=False)).table for b in (own, stored))
    pd.testing.assert_series_equal(one["predicted_value"], other["predicted_value"], atol=5e-3)
    assert recommend_known(None, stored, Request(device=DEVICE, measure=False)).dataset_id == "d5"


def test_a_new_model_is_embedded_by_the_encoder_half(bundle, tmp_path):
    import torch

    from thesis_rec.models.auto_encoder import AutoEncoder, encoder_half

    config = {"n_inputs": 32, "hidden": (4,), "n_code": 8}
    network = AutoEncoder(**config)
    half = encoder_half({"config": config, "network": network.state_dict()})
    write_bundle(bundle, tmp_path, autoencoder=half)
    vector = np.random.default_rng(0).normal(size=32).astype(np.float32)
    new = bundle.manifest.tail(1).assign(model_id="new", source="models/new")
    listed = replace(bundle, manifest=pd.concat([bundle.manifest, new], ignore_index=True))
    artefacts = {
        "stored": read_bundle(tmp_path), "published_hardware_profiles": bundle.profiles,
        "model_vectors": {"new": lambda: {"parameters": vector, "n_parameters": np.int64(12345)}},
    }  # fmt: skip
    found = joined(listed, artefacts)
    assert found.models.model_ids[-1] == "new"
    assert found.sources["models added without training"] == "new"
    expected = network.eval().encode(torch.from_numpy(vector[None])).detach().numpy()[0]
    np.testing.assert_allclose(found.models.embedding[-1], expected, atol=0.02)
    answer = recommend_known("d0", found, Request(device=DEVICE, measure=False)).table.set_index("model_id")
    assert answer.loc["new", "n_parameters"] == 12345
    # Its latency was never measured on that device.
    assert answer.loc["new", "basis"] in ("predicted", "unknown")


@pytest.mark.parametrize(("made_by", "embedded"), [("this", True), ("", True), ("other", False)])
def test_codes_of_two_autoencoders_are_not_mixed(bundle, tmp_path, made_by, embedded):
    """One trained after the embeddings were made: what it makes of a new model can't be compared with them."""
    embeddings = own_artefacts(bundle)["model_embeddings"].iloc[1:].rename(columns=str)
    embeddings.attrs["autoencoder_id"] = made_by
    embeddings.to_parquet(tmp_path / "embeddings.parquet")
    config = {"n_inputs": 40, "n_code": bundle.models.embedding.shape[1]}
    own = {
        "model_embeddings": pd.read_parquet(tmp_path / "embeddings.parquet"),
        "model_vectors": {"m00": lambda: {"parameters": np.ones(40, np.float32), "n_parameters": np.array(9)}},
        "autoencoder_checkpoint": lambda: {
            "config": config, "network": AutoEncoder(**config).state_dict(), "autoencoder_id": "this",
        },
    }  # fmt: skip
    found = joined(bundle, own_artefacts(bundle, **own))
    codes = dict(zip(found.models.model_ids, np.isfinite(found.models.embedding).all(1), strict=True))
    assert codes["m01"]
    assert codes["m00"] == embedded
    assert any("isn't the one that made your embeddings (other)" in note for note in found.notes) != embedded


def test_own_files_that_can_t_be_read_are_notes_in_the_answer(bundle, tmp_path):
    write_bundle(bundle, tmp_path)

    def damaged():
        raise OSError("it is cut off")

    own = own_artefacts(bundle)
    shards = dict(own["dataset_tokens"])
    first = next(key for key in shards if key.startswith("d1/train"))
    found = joined(bundle, own | {"stored": read_bundle(tmp_path), "dataset_tokens": shards | {first: damaged}})
    assert "Your dataset d1 was left out: it is cut off." in found.notes
    assert found.tokens["d1"].n_images == bundle.tokens["d1"].n_images


@pytest.fixture(scope="module")
def hub(project_dir):
    """The zoo of real models as it comes, with a row of one's own."""
    folder = project_dir / "data" / "01_raw" / "hub"
    manifest = pd.read_csv(folder / "model_manifest.csv", dtype=str, keep_default_na=False)
    mine = manifest[manifest["model_id"] == "google/siglip-base-patch16-512"].assign(model_id="mine", input_size="224")
    datasets = pd.read_csv(folder / "dataset_manifest.csv", dtype=str, keep_default_na=False)
    bare = mine.assign(model_id="bare", loader="local", source="mine.pt", parameters="")
    # A row of a manifest without further columns, of weights that the zoo lists.
    columns = ["model_id", "loader", "source", "revision", "family", "pretraining", "licence", "extractor"]
    listed = manifest.loc[manifest["model_id"] == "timm/resnet18.a1_in1k", columns].assign(model_id="again")
    read = pd.DataFrame({"model_id": ["bare", "mine"], "n_parameters": [1.5e6, 1.0]})
    artefacts = {"stored": read_bundle(folder / "bundle"), "model_metadata": read}
    # Text as the catalog reads it, which has NA for what a row lacks.
    rows = pd.concat([manifest, mine, bare, listed], ignore_index=True).astype("string")
    return assemble(rows, datasets, artefacts, zoo="hub")


def of_seven_classes(hub):
    tokens = TaskTokens("images", np.zeros((0, 7, 0), np.float32), list("abcdefg"), 70)
    belief = believed(hub, tokens)
    return dict(zip(belief.model_ids, belief.mean, strict=True))


def test_what_is_known_of_weights_counts_whatever_they_are_called(hub):
    mean, known = of_seven_classes(hub), "open_clip/ViT-B-16-SigLIP-512.webli"
    assert mean["mine"] == pytest.approx(mean[known])
    assert mean["timm/vit_base_patch14_dinov2.lvd142m"] == pytest.approx(mean["facebook/dinov2-base"])
    (reason,) = reasons(["mine"], pd.DataFrame(columns=["dataset_id"]), hub, {})
    assert reason.startswith(f"21 published linear probes of its weights as {known}, against")
    assert "mine" not in hub.from_afar
    assert mean["again"] == pytest.approx(mean["timm/resnet18.a1_in1k"])
    # Under another name and for images of the same size they would be listed twice.
    assert known in mean
    assert "google/siglip-base-patch16-512" not in mean
    assert hub.sources["listed under another name"].endswith(" more")


def test_weights_that_were_read_are_counted_where_the_manifest_doesn_t_say(hub):
    """A limit on weights excluded one's own small models, whose weights had been read."""
    counts = dict(zip(hub.models.model_ids, hub.models.n_parameters, strict=True))
    assert counts["bare"] == 1.5e6
    assert counts["mine"] > 9e7


def test_a_checkpoint_of_the_hub_that_no_library_builds_is_no_candidate(hub):
    """It was the first of all VGGs, without a line that loads it."""
    assert "edadaltocg/vgg16_bn_cifar10" not in of_seven_classes(hub)
    assert "edadaltocg/vgg16_bn_cifar10" in hub.sources["built by no library"]


def test_a_small_supervised_network_is_not_put_before_one_that_was_measured_to_be_better(hub):
    """On CIFAR-10, MNIST and GTSRB linear probes of CLIP reach .90, .90, .70, of EfficientNet-Lite0 .60, .84, .61."""
    mean = of_seven_classes(hub)
    for small in ("timm/tf_efficientnet_lite0.in1k", "timm/mobilenetv2_100.ra_in1k", "timm/resnet50.tv_in1k"):
        assert mean[small] < mean["open_clip/ViT-B-32.openai"]
    assert mean["timm/tf_efficientnet_b5.ns_jft_in1k"] < mean["facebook/dinov2-base"]


def test_what_a_network_was_trained_on_tells_its_kind_whatever_the_tag_calls_it(hub):
    """Networks tuned on one small dataset were ranked as nothing was known of them, before all that ImageNet made."""
    mean = of_seven_classes(hub)
    for small in ("edadaltocg/resnet18_svhn", "nateraw/vit-base-beans", "nielsr/convnext-tiny-finetuned-eurosat"):
        assert mean[small] < mean["timm/resnext101_32x8d.fb_swsl_ig1b_ft_in1k"] < mean["open_clip/ViT-B-32.openai"]
    # A network of 6 million weights that nobody measured isn't before one of 22 million that was measured to be good.
    assert mean["timm/vit_pe_core_tiny_patch16_384.fb"] < mean["facebook/dinov2-small"]
    # By linear probes on ImageNet MAE lies behind MoCo v3 and both far behind DINOv2.
    for network, size in (("base", "b"), ("large", "l")):
        contrasted = mean[f"nyu-visionx/moco-v3-vit-{size}"]
        assert mean[f"timm/vit_{network}_patch16_224.mae"] < contrasted < mean["facebook/dinov2-small"]


def test_models_without_responses_have_none(bundle):
    names = np.array([f"{task}/linear_probe" for task in "abc"])
    responses = {"responses": np.ones((2, 3)), "model_ids": np.array(["m00", "m01"]), "names": names}
    models = joined(bundle, own_artefacts(bundle, model_responses=responses)).models
    assert models.reference[:2].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert np.isnan(models.reference[2:]).all()


def test_one_s_own_profiles_replace_the_published_ones(bundle):
    own = bundle.profiles.iloc[:2].assign(latency_ms_p50=77.0)
    found = joined(bundle, own_artefacts(bundle, hardware_profiles=own, published_hardware_profiles=bundle.profiles))
    assert found.sources["hardware profiles"] == "own and starter"
    assert (found.profiles["latency_ms_p50"] == 77.0).sum() == 2
    assert len(found.profiles) == len(bundle.profiles)
    none = joined(bundle, own_artefacts(bundle, hardware_profiles=bundle.profiles.iloc[:0]))
    assert none.profiles.empty
    assert "hardware profiles" not in none.sources


def test_one_s_own_items_are_laid_over_the_shipped_ones(bundle, tmp_path):
    write_bundle(bundle, tmp_path)
    few = {name: bundle.tokens[name] for name in ("d0", "d1")}
    new = replace(bundle.tokens["d2"], dataset_id="mine")
    own = replace(bundle, tokens={**few, "mine": new})
    performance = pd.DataFrame(
        [("m00", "d0", "linear_probe", 0.123), ("m01", "mine", "linear_probe", 0.9)],
        columns=["model_id", "dataset_id", "protocol", "value"],
    )
    artefacts = own_artefacts(own, stored=read_bundle(tmp_path), performance=performance)
    # What the knowledge rests on decides: the own one of all shipped datasets answers, encoded here or not.
    found = assemble(bundle.manifest, datasets(own), artefacts)
    assert found.sources["knowledge"] == "own"
    assert set(found.tokens) == {*bundle.tokens, "mine"}
    assert found.notes == ()
    # Here it rests on 2 of the 6: the shipped one answers, nothing shipped is lost.
    of_few = replace(bundle.knowledge, dataset_ids=["d0", "d1", "mine", "x", "y", "z"])
    found = assemble(bundle.manifest, datasets(own), {**artefacts, "knowledge": of_few.to_arrays()})
    assert found.sources["knowledge"] == "starter"
    assert set(found.tokens) == {*bundle.tokens, "mine"}
    cells = found.performance.set_index(["model_id", "dataset_id"])["value"]
    assert cells[("m00", "d0")] == pytest.approx(0.123)
    assert cells[("m01", "mine")] == pytest.approx(0.9)
    assert len(cells) == len(bundle.performance) + 1
    assert any("lack 4 of the 6 datasets" in note for note in found.notes)


def test_own_records_count_beside_published_figures_whether_their_images_were_encoded_or_not(bundle, project_dir):
    """They were left out, in silence, once any other dataset had been encoded."""
    stored = read_bundle(project_dir / "data" / "01_raw" / "hub" / "bundle")
    records = pd.DataFrame(
        [("m00", "mine", "linear_probe", 0.9)], columns=["model_id", "dataset_id", "protocol", "value"]
    )
    artefacts = {"stored": stored, "dataset_tokens": own_artefacts(bundle)["dataset_tokens"]}
    found = joined(bundle, {**artefacts, "performance_records": records, "performance": records.assign(model_id="m01")})
    assert found.tokens
    cells = found.performance[found.performance["dataset_id"] == "mine"]
    assert sorted(cells["model_id"]) == ["m00", "m01"]


def test_own_datasets_of_another_encoder_are_left_out_with_a_note(bundle, tmp_path):
    write_bundle(bundle, tmp_path)
    shards = own_artefacts(bundle)["dataset_tokens"]
    for shard in shards.values():
        shard["encoder_id"] = np.array("another")
    artefacts = own_artefacts(bundle, stored=read_bundle(tmp_path), dataset_tokens=shards)
    artefacts.pop("knowledge")
    found = joined(bundle, artefacts)
    assert {tokens.encoder_id for tokens in found.tokens.values()} == {"fabricated"}
    assert any("Left out of your own datasets" in note and "another" in note for note in found.notes)
