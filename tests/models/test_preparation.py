"""Networks are fed what timm, open_clip and transformers themselves would feed them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
import transformers
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

from tests.models import tiny_models as models
from thesis_rec.base.errors import ItemError
from thesis_rec.models.backbone import Backbone, Preparation, check_repeatable, preparation_of
from thesis_rec.models.loaders import load_backbone
from thesis_rec.models.model_manifest import ManifestRow

STAGES = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 16, 24], "num_labels": 5}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def load(loader: str, root: Path) -> Backbone:
    return load_backbone(ManifestRow(model_id="the model", loader=loader, source="m"), root)


def pictures() -> list[Image.Image]:
    """Noise on colour ramps, square, wide, high and small."""
    draw = np.random.default_rng(0)
    found = []
    for height, width in ((61, 61), (49, 90), (90, 49), (20, 20), (32, 32)):
        ramp = np.linspace(0, 200, width)[None, :, None] * np.array([1.0, 0.6, 0.2])
        noise = draw.normal(0, 20, (height, width, 3))
        found.append(Image.fromarray(np.clip(ramp + noise + 20, 0, 255).astype(np.uint8)))
    return found


def assert_fed_alike(
    backbone: Backbone, library: Callable[[Image.Image], torch.Tensor], square_only: bool = False
) -> None:
    """Our input equals the library's but for what resizing in whole numbers rounds."""
    prepare = backbone.preparation.on("cpu")
    for picture in pictures():
        if square_only and picture.width != picture.height:
            continue
        expected = library(picture).reshape(1, 3, backbone.input_size, backbone.input_size)
        ours = prepare(torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float())
        step = 1 / 255 / min(backbone.preparation.std)  # one level of the most stretched channel
        assert (ours - expected).abs().mean() < 0.5 * step
        assert (ours - expected).abs().max() < 6 * step


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("crop_pct", [1.0, 0.875, None])
def test_timm(crop_mode: str, interpolation: str, crop_pct: float | None, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "input_size": (3, 32, 32), "crop_mode": crop_mode, "interpolation": interpolation, "crop_pct": crop_pct,
        "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3),
    }  # fmt: skip
    if crop_mode == "border":
        settings["mean"] = (0.0, 0.0, 0.0)  # its borders have the mean's colour, ours are black
    network = timm.create_model("resnet10t", num_classes=3, pretrained_cfg_overlay=settings)
    timm.models.save_for_hf(network, tmp_path / "m", safe_serialization=True)
    backbone = load("timm", tmp_path)
    assert_fed_alike(backbone, create_transform(**resolve_model_data_config(network)))
    assert backbone.preparation.on("cpu")(torch.zeros(2, 3, 9, 9)).shape == (2, 3, 32, 32)


@pytest.mark.parametrize("resize_mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_open_clip(resize_mode: str, interpolation: str, tmp_path: Path) -> None:
    models.save_open_clip(tmp_path / "m")
    file = tmp_path / "m" / "open_clip_config.json"
    config = json.loads(file.read_text())
    config["preprocess_cfg"] |= {"resize_mode": resize_mode, "interpolation": interpolation}
    file.write_text(json.dumps(config))
    transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'm'}")[2]
    assert_fed_alike(load("open_clip", tmp_path), transform)


def classifiers() -> dict[str, tuple[Callable[[], Any], Any]]:
    """A tiny network of each supported kind with the processor that its library pairs with it."""
    tf = transformers
    small = {"height": 32, "width": 32}
    vision = models.VISION | {"num_labels": 5}
    return {
        "vit": (lambda: tf.ViTForImageClassification(tf.ViTConfig(**vision)), tf.ViTImageProcessor(size=small)),
        "deit": (
            lambda: tf.DeiTForImageClassification(tf.DeiTConfig(**vision)),
            tf.DeiTImageProcessor(size={"height": 40, "width": 40}, crop_size=small),
        ),
        "beit": (
            lambda: tf.BeitForImageClassification(tf.BeitConfig(**vision)),
            tf.BeitImageProcessor(size=small, do_center_crop=False),
        ),
        "convnext": (
            lambda: tf.ConvNextForImageClassification(tf.ConvNextConfig(**STAGES)),
            tf.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.875),
        ),
        "mobilevit": (
            lambda: tf.MobileViTForImageClassification(
                tf.MobileViTConfig(
                    hidden_sizes=[8, 8, 8], neck_hidden_sizes=[4, 4, 4, 8, 8, 8, 8], num_attention_heads=2,
                    image_size=32, num_labels=5,
                )
            ),
            tf.MobileViTImageProcessor(size={"shortest_edge": 40}, crop_size=small),
        ),
        "efficientnet": (
            lambda: tf.EfficientNetForImageClassification(
                tf.EfficientNetConfig(width_coefficient=0.25, depth_coefficient=0.1, hidden_dim=320, num_labels=5)
            ),
            tf.EfficientNetImageProcessor(size=small),
        ),
        "mobilenet": (
            lambda: tf.MobileNetV2ForImageClassification(tf.MobileNetV2Config(depth_multiplier=0.25, num_labels=5)),
            tf.MobileNetV2ImageProcessor(size={"shortest_edge": 40}, crop_size=small),
        ),
        "dinov2": (
            lambda: tf.Dinov2ForImageClassification(tf.Dinov2Config(**vision)),
            tf.BitImageProcessor(size={"shortest_edge": 36}, crop_size=small),
        ),
        "masked autoencoder": (
            lambda: tf.ViTMAEForPreTraining(
                tf.ViTMAEConfig(
                    **models.VISION, decoder_hidden_size=16, decoder_num_hidden_layers=1,
                    decoder_num_attention_heads=2, decoder_intermediate_size=32,
                )
            ),
            tf.ViTImageProcessor(size=small),
        ),
        "clip": (
            lambda: tf.CLIPModel(
                tf.CLIPConfig(vision_config=models.VISION, text_config=models.TEXT, projection_dim=16)
            ),
            tf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=small),
        ),
        "siglip": (models.tiny_siglip, tf.SiglipImageProcessor(size=small)),
        "poolformer": (
            lambda: tf.PoolFormerForImageClassification(tf.PoolFormerConfig(**STAGES)),
            tf.PoolFormerImageProcessor(size={"shortest_edge": 32}, crop_size=small, crop_pct=0.9),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("where", ["preprocessor_config.json", "processor_config.json"])
@pytest.mark.parametrize("kind", sorted(classifiers()))
def test_transformers(kind: str, where: str, tmp_path: Path) -> None:
    make, processor = classifiers()[kind]
    torch.manual_seed(0)
    make().save_pretrained(tmp_path / "m")
    if where == "preprocessor_config.json":
        processor.save_pretrained(tmp_path / "m")
    else:
        content = {"image_processor": json.loads(processor.to_json_string())}
        (tmp_path / "m" / where).write_text(json.dumps(content))
    backbone = load("transformers", tmp_path)
    assert backbone.input_size == 32
    own = transformers.AutoImageProcessor.from_pretrained(tmp_path / "m")
    shape = own(images=pictures()[1], return_tensors="pt")["pixel_values"].shape[-2:]
    # Where nothing is cropped the library keeps a picture's proportions, and networks of one size can't.
    assert_fed_alike(
        backbone,
        lambda picture: own(images=picture, return_tensors="pt")["pixel_values"],
        square_only=tuple(shape) != (32, 32),
    )


@pytest.mark.parametrize(
    "flags",
    [
        {"do_normalize": False},
        {"do_rescale": False},
        {"do_rescale": False, "do_normalize": False},
        {"rescale_factor": 1 / 127.5},
        {"resample": 0},
        {"resample": 3, "image_mean": [0.1, 0.2, 0.3]},
    ],
    ids=str,
)
def test_flags_of_a_processor_count(flags: dict[str, Any], tmp_path: Path) -> None:
    models.tiny_vit().save_pretrained(tmp_path / "m")
    processor = transformers.ViTImageProcessor(**{"size": {"height": 32, "width": 32}} | flags)
    processor.save_pretrained(tmp_path / "m")
    backbone = load("transformers", tmp_path)
    assert_fed_alike(backbone, lambda picture: processor(images=picture, return_tensors="pt")["pixel_values"])


def test_a_masked_autoencoder_sees_all_patches_and_gives_the_same_twice(tmp_path: Path) -> None:
    make, processor = classifiers()["masked autoencoder"]
    torch.manual_seed(0)
    network = make().eval()
    network.save_pretrained(tmp_path / "m")
    processor.save_pretrained(tmp_path / "m")
    backbone = load("transformers", tmp_path)
    image = torch.randn(2, 3, 32, 32)
    network.config.mask_ratio = 0.0
    with torch.inference_mode():
        first, second = backbone.features(image), backbone.features(image)
        # Patches stand in another order here, which a mean over them doesn't see.
        expected = network.vit(image).last_hidden_state.mean(1)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, expected)


def test_what_draws_at_random_is_refused(tmp_path: Path) -> None:
    network = torch.nn.Linear(3 * 64, 5)

    def features(images: torch.Tensor) -> torch.Tensor:
        return network(torch.nn.functional.dropout(images.flatten(1), training=True))

    backbone = Backbone("the model", network, features, None, Preparation(8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
    with pytest.raises(ValueError, match=r"two passes .* drop-out"):
        check_repeatable(backbone)


def test_inputs_that_are_not_square_are_refused(tmp_path: Path) -> None:
    network = timm.create_model("resnet10t", num_classes=3, pretrained_cfg_overlay={"input_size": (3, 64, 32)})
    timm.models.save_for_hf(network, tmp_path / "m", safe_serialization=True)
    with pytest.raises(ItemError, match=r"not square \(64 x 32 pixels\)"):
        load("timm", tmp_path)


def test_patches_with_places_are_refused_for_what_they_are(tmp_path: Path) -> None:
    text = models.TEXT | {"projection_size": 32}
    vision = models.TOWER | {"patch_size": 8, "num_patches": 16}
    network = transformers.Siglip2Model(transformers.Siglip2Config(text_config=text, vision_config=vision))
    network.save_pretrained(tmp_path / "m")
    with pytest.raises(ItemError, match="takes patches"):
        load("transformers", tmp_path)


def test_another_way_of_preparing_is_refused() -> None:
    def library(picture: Image.Image) -> torch.Tensor:
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()
        return Preparation(32, 32).on("cpu")(pixels[None].roll(pixels.shape[1] // 3, dims=2))

    with pytest.raises(ValueError, match="isn't supported"):
        preparation_of(library)


def test_what_keeps_the_size_of_pictures_is_refused() -> None:
    def library(picture: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()

    with pytest.raises(ValueError, match="isn't supported"):
        preparation_of(library)


@pytest.mark.parametrize(
    "preparation",
    [
        Preparation(32, 37, "crop", "bicubic", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), bgr=True, floor=True),
        Preparation(32, 36, "stretch", "nearest-exact", (0.0, 0.0, 0.0), (1 / 255,) * 3),
        Preparation(48, 48, "pad", "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        Preparation(24, None, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        Preparation(32, 35, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), floor=False),
    ],
    ids=str,
)
def test_a_preparation_is_told_by_what_it_makes_of_pictures(preparation: Preparation) -> None:
    def library(picture: Image.Image) -> torch.Tensor:
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float()
        return preparation.on("cpu")(pixels)

    found = preparation_of(library)
    assert found.mean == pytest.approx(preparation.mean, abs=1e-6)
    assert found.std == pytest.approx(preparation.std, rel=1e-6)
    same = {name: getattr(preparation, name) for name in ("size", "resize_to", "fit", "interpolation", "bgr")}
    assert {name: getattr(found, name) for name in same} == same
    assert found.floor == preparation.floor or (preparation.resize_to or 0) <= 32
