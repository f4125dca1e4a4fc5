"""Backbones give the features and logits of the networks that they were saved from."""

from __future__ import annotations

import json

import pytest
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.models import tiny_models
from thesis_rec.base.errors import ItemError
from thesis_rec.models.loaders import load_backbone
from thesis_rec.models.model_manifest import ManifestRow


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def row(loader: str, source: str = "m") -> ManifestRow:
    return ManifestRow(model_id="the model", loader=loader, source=source)


def images(size: int, n: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resnet10t", {}),
        ("mobilenetv3_small_050", {}),
        ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "depth": 1}),
    ],
)
def test_timm_features_and_head_give_the_networks_logits(name, arguments, tmp_path):
    network = tiny_models.save_timm(tmp_path / "m", name, **arguments)
    backbone = load_backbone(row("timm"), tmp_path)
    x = images(64 if "vit" not in name else backbone.input_size)
    with torch.inference_mode():
        features = backbone.features(x)
        assert features.shape == (2, backbone.n_features)
        torch.testing.assert_close(backbone.head(features), network(x))
    assert backbone.model_id == "the model"
    assert backbone.input_size == network.pretrained_cfg["input_size"][-1] or backbone.input_size == 32
    assert len(backbone.preparation.mean) == len(backbone.preparation.std) == 3
    assert not backbone.network.training


def test_grey_networks_take_the_luma_of_colours(tmp_path):
    network = tiny_models.save_timm(tmp_path / "m", in_chans=1)
    backbone = load_backbone(row("timm"), tmp_path)
    x = images(32)
    with torch.inference_mode():
        # ITU-R 601, as Pillow's grey has it.
        grey = (x * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
        torch.testing.assert_close(backbone.head(backbone.features(x)), network(grey))


def test_networks_of_four_channels_are_refused(tmp_path):
    tiny_models.save_timm(tmp_path / "m", in_chans=4)
    with pytest.raises(ItemError, match="takes 4 channels"):
        load_backbone(row("timm"), tmp_path)


def test_detector_packs_have_a_small_stem(tmp_path):
    torch.manual_seed(0)
    network = timm.create_model("resnet18", num_classes=4)
    network.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = torch.nn.Identity()
    folder = tmp_path / "m"
    folder.mkdir()
    torch.save(network.eval().state_dict(), folder / "pytorch_model.bin")
    settings = {"input_size": [3, 32, 32], "mean": [0.4, 0.4, 0.5], "std": [0.2, 0.2, 0.2]}
    config = {"architecture": "resnet18", "num_classes": 4, "pretrained_cfg": settings}
    (folder / "config.json").write_text(json.dumps(config))
    backbone = load_backbone(row("detector_pack"), tmp_path)
    assert (backbone.n_features, backbone.input_size, backbone.preparation.mean) == (512, 32, (0.4, 0.4, 0.5))
    with torch.inference_mode():
        torch.testing.assert_close(backbone.head(backbone.features(images(32))), network(images(32)))
    (folder / "config.json").write_text(json.dumps(config | {"architecture": "mobilenetv3_small_050"}))
    with pytest.raises(ItemError, match="no stem to make small"):
        load_backbone(row("detector_pack"), tmp_path)


def small(name: str) -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    stages = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 16, 24]}
    kinds = {
        "vit": tiny_models.tiny_vit,
        "swin": lambda: transformers.SwinForImageClassification(
            transformers.SwinConfig(
                image_size=32, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4, num_labels=5
            )
        ),
        "poolformer": lambda: transformers.PoolFormerForImageClassification(
            transformers.PoolFormerConfig(**stages, num_labels=5)
        ),
        "convnext": lambda: transformers.ConvNextForImageClassification(
            transformers.ConvNextConfig(**stages, num_labels=5)
        ),
        "resnet": lambda: transformers.ResNetForImageClassification(
            transformers.ResNetConfig(embedding_size=8, **stages, num_labels=5)
        ),
        "regnet": lambda: transformers.RegNetForImageClassification(
            transformers.RegNetConfig(embedding_size=8, groups_width=8, **stages, num_labels=5)
        ),
        "mobilenet_v2": lambda: transformers.MobileNetV2ForImageClassification(
            transformers.MobileNetV2Config(depth_multiplier=0.25, num_labels=5)
        ),
        "efficientnet": lambda: transformers.EfficientNetForImageClassification(
            transformers.EfficientNetConfig(
                width_coefficient=0.25, depth_coefficient=0.1, hidden_dim=320, num_labels=5
            )
        ),
        "dinov2": lambda: transformers.Dinov2ForImageClassification(
            transformers.Dinov2Config(**(tiny_models.VISION | {"image_size": 28, "patch_size": 14}), num_labels=5)
        ),
    }  # fmt: skip
    return kinds[name]().eval()


@pytest.mark.parametrize(
    "name",
    ["vit", "swin", "poolformer", "convnext", "resnet", "regnet", "mobilenet_v2", "efficientnet", "dinov2"],
)
def test_transformers_features_and_head_give_the_networks_logits(name, tmp_path):
    network = small(name)
    tiny_models.save_transformers(tmp_path / "m", network)
    backbone = load_backbone(row("transformers"), tmp_path)
    size = 28 if name == "dinov2" else 32
    with torch.inference_mode():
        features = backbone.features(images(size))
        assert features.shape == (2, backbone.n_features)
        torch.testing.assert_close(backbone.head(features), network(pixel_values=images(size)).logits)
    assert backbone.input_size == 32
    assert (backbone.preparation.mean, backbone.preparation.std) == (
        pytest.approx((0.5, 0.4, 0.3)),
        pytest.approx((0.2, 0.2, 0.1)),
    )


def test_gradients_flow_through_features(tmp_path):
    tiny_models.save_transformers(tmp_path / "m", tiny_models.tiny_vit())
    backbone = load_backbone(row("transformers"), tmp_path)
    backbone.head(backbone.features(images(32))).sum().backward()
    assert all(p.grad is not None for p in backbone.network.parameters())


def test_half_precision_becomes_single(tmp_path):
    tiny_models.save_transformers(tmp_path / "m", tiny_models.tiny_vit().half())
    tiny_models.save_timm(tmp_path / "t")
    file = tmp_path / "t" / "model.safetensors"
    save_file({name: t.half() if t.is_floating_point() else t for name, t in load_file(file).items()}, file)
    for loader, source in (("transformers", "m"), ("timm", "t")):
        backbone = load_backbone(row(loader, source), tmp_path)
        assert {p.dtype for p in backbone.network.parameters()} == {torch.float32}


def test_without_a_head_the_pooled_output_counts(tmp_path):
    network = small("resnet").base_model
    tiny_models.save_transformers(tmp_path / "m", network)
    backbone = load_backbone(row("transformers"), tmp_path)
    assert backbone.head is None
    with torch.inference_mode():
        expected = network(pixel_values=images(32)).pooler_output.flatten(1)
        torch.testing.assert_close(backbone.features(images(32)), expected)


def test_a_pooler_without_weights_is_not_used(tmp_path):
    network = tiny_models.tiny_vit().vit  # saved without a pooling layer, which ViTModel would fill at random
    tiny_models.save_transformers(tmp_path / "m", network)
    backbone = load_backbone(row("transformers"), tmp_path)
    with torch.inference_mode():
        expected = network(pixel_values=images(32)).last_hidden_state.mean(1)
        torch.testing.assert_close(backbone.features(images(32)), expected)


@pytest.mark.parametrize("kind", ["siglip", "clip"])
def test_of_an_image_text_model_the_image_half_is_used(kind, tmp_path):
    network = tiny_models.tiny_siglip()
    if kind == "clip":
        config = transformers.CLIPConfig(
            vision_config=tiny_models.VISION, text_config=tiny_models.TEXT, projection_dim=16
        )
        network = transformers.CLIPModel(config).eval()
    tiny_models.save_transformers(tmp_path / "m", network, preprocessing=False)
    backbone = load_backbone(row("transformers"), tmp_path)
    # Without a file the usual processor of the architecture counts, not ImageNet's.
    usual = (0.5, 0.5, 0.5) if kind == "siglip" else (0.48145466, 0.4578275, 0.40821073)
    assert (backbone.n_features, backbone.input_size, backbone.preparation.mean) == (32, 32, pytest.approx(usual))
    with torch.inference_mode():
        expected = network.vision_model(pixel_values=images(32)).pooler_output
        torch.testing.assert_close(backbone.features(images(32)), expected)


def test_open_clip_features_are_not_normalised(tmp_path):
    network = tiny_models.save_open_clip(tmp_path / "m")
    backbone = load_backbone(row("open_clip"), tmp_path)
    assert (backbone.n_features, backbone.input_size, backbone.head) == (16, 32, None)
    assert backbone.preparation.mean == pytest.approx((0.1, 0.2, 0.3))
    assert backbone.preparation.std == pytest.approx((0.4, 0.5, 0.6))
    with torch.inference_mode():
        torch.testing.assert_close(backbone.features(images(32)), network.encode_image(images(32)))


@pytest.mark.parametrize(("content", "message"), [("{", "can't be read"), ("[]", "can't be read")])
def test_damaged_configurations_are_named(content, message, tmp_path):
    tiny_models.save_transformers(tmp_path / "m", tiny_models.tiny_vit())
    (tmp_path / "m" / "config.json").write_text(content)
    with pytest.raises(ItemError, match=message):
        load_backbone(row("transformers"), tmp_path)


def test_weights_that_the_configuration_asks_for_may_not_be_absent(tmp_path):
    tiny_models.save_transformers(tmp_path / "m", tiny_models.tiny_vit())
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(ItemError, match="lacks weights"):
        load_backbone(row("transformers"), tmp_path)


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"size": 48}, 48),
        ({"size": {"shortest_edge": 70}, "crop_size": {"height": 64, "width": 64}, "do_center_crop": True}, 64),
        ({"size": {"shortest_edge": 64}, "crop_size": 36, "do_center_crop": False}, 64),
        ({"size": [44, 44]}, 44),
        ({}, 224),
    ],
)
def test_image_size_from_the_ways_that_preprocessors_say_it(settings, size, tmp_path):
    tiny_models.save_transformers(tmp_path / "m", small("resnet"), preprocessing=False)
    more = {"do_normalize": False, "image_processor_type": "ViTImageProcessor"}
    (tmp_path / "m" / "preprocessor_config.json").write_text(json.dumps(settings | more))
    backbone = load_backbone(row("transformers"), tmp_path)
    assert (backbone.input_size, backbone.preparation.mean, backbone.preparation.std) == (
        size,
        (0.0, 0.0, 0.0),
        (1.0, 1.0, 1.0),
    )
