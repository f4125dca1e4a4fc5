"""Encoders of the three libraries: unit features, identity, text, refusals."""

from types import SimpleNamespace

import numpy as np
import pytest
from huggingface_hub.errors import GatedRepoError
from pydantic import ValidationError

from tests.images.encoders.tiny import colour_encoder, save_open_clip
from thesis_rec.base.errors import ItemError
from thesis_rec.images.encoders import EncoderConfig, ImageEncoder, encoder_id, load_encoder
from thesis_rec.images.encoders.image_encoder import CLIP_COLOURS

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def open_clip_folder(tmp_path_factory):
    return save_open_clip(tmp_path_factory.mktemp("encoder") / "clip")


@pytest.fixture(scope="module")
def transformers_folder(tmp_path_factory):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        vision_config={**sizes, "image_size": 16, "patch_size": 8},
        text_config={**sizes, "vocab_size": 50, "max_position_embeddings": 8},
        projection_dim=12,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("encoder") / "hf"
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vit_folder(tmp_path_factory):
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8
    )
    folder = tmp_path_factory.mktemp("encoder") / "vit"
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


IMAGES = np.random.default_rng(0).integers(0, 256, (5, 20, 28, 3)).astype(np.uint8)


def check(encoder):
    features = np.concatenate([encoder.encode(IMAGES[:2]), encoder.encode(IMAGES[2:])])
    assert isinstance(encoder, ImageEncoder)
    assert features.shape == (5, encoder.dim)
    assert features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(features, encoder.encode(IMAGES), atol=1e-5)
    return features


class TestOpenClip:
    def test_features_equal_those_of_the_library_itself(self, open_clip_folder):
        import open_clip

        encoder = load_encoder(EncoderConfig(source=str(open_clip_folder)))
        check(encoder)
        model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{open_clip_folder}")
        model.eval()
        square = np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
        pixels = (torch.from_numpy(square).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
        with torch.no_grad():
            expected = model.encode_image(pixels, normalize=True).numpy()
            words = model.encode_text(
                open_clip.get_tokenizer(f"local-dir:{open_clip_folder}")(["a cat"]), normalize=True
            )
        np.testing.assert_allclose(encoder.encode(square), expected, atol=1e-5)
        np.testing.assert_allclose(encoder.encode_text(["a cat"]), words.numpy(), atol=1e-5)

    def test_identity_follows_the_files_not_their_place(self, open_clip_folder, tmp_path):
        import shutil

        copy = tmp_path / "clip"
        shutil.copytree(open_clip_folder, copy)
        assert encoder_id(EncoderConfig(source=str(copy))) == encoder_id(EncoderConfig(source=str(open_clip_folder)))
        (copy / "open_clip_config.json").write_text("{}")
        assert encoder_id(EncoderConfig(source=str(copy))) != encoder_id(EncoderConfig(source=str(open_clip_folder)))
        with pytest.raises(ItemError, match="can't be loaded"):
            load_encoder(EncoderConfig(source=str(copy)))

    def test_a_damaged_folder_is_not_called_gated_by_its_path(self, tmp_path):
        folder = tmp_path / "401"
        folder.mkdir()
        (folder / "open_clip_config.json").write_text("{}")
        with pytest.raises(ItemError, match="can't be loaded"):
            load_encoder(EncoderConfig(source=str(folder)))

    def test_an_architecture_without_weights_is_refused(self):
        with pytest.raises(ItemError, match="no pretrained weights were named"):
            load_encoder(EncoderConfig(source="ViT-B-32"))

    def test_bf16_is_close(self, open_clip_folder):
        config = EncoderConfig(source=str(open_clip_folder))
        exact, rough = (load_encoder(config, precision=p).encode(IMAGES) for p in ("fp32", "bf16"))
        assert rough.dtype == np.float32
        assert (exact * rough).sum(1).min() > 0.999


class TestTransformers:
    def test_clip(self, transformers_folder):
        from transformers import CLIPModel

        encoder = load_encoder(EncoderConfig(kind="transformers", source=str(transformers_folder)))
        check(encoder)
        assert encoder.dim == 12
        assert encoder.encode_text(["a"]) is None  # no tokenizer was saved
        square = np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
        mean, std = (np.array(CLIP_COLOURS[name]) for name in ("mean", "std"))
        pixels = torch.from_numpy(((square / 255 - mean) / std).transpose(0, 3, 1, 2)).float()
        model = CLIPModel.from_pretrained(transformers_folder).eval()
        with torch.no_grad():
            expected = model.get_image_features(pixel_values=pixels).pooler_output.numpy()
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(encoder.encode(square), expected, atol=1e-5)

    def test_text(self, transformers_folder):
        from thesis_rec.images.encoders import torch_encoder

        class Tokenizer:
            @classmethod
            def from_pretrained(cls, *args, **kwargs):
                return cls()

            def __len__(self):
                return 50

            def __call__(self, texts, **kwargs):
                ids = torch.tensor([[1, 5, 49, 49, 49, 49, 49, 49]] * len(texts))
                return {"input_ids": ids, "token_type_ids": ids}

        import transformers

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(transformers, "AutoTokenizer", Tokenizer)
            config = EncoderConfig(kind="transformers", source=str(transformers_folder))
            encoder = torch_encoder.load(config)
        assert encoder.encode_text(["a", "b"]).shape == (2, 12)

    def test_an_encoder_without_pooling_is_averaged_over_tokens(self, vit_folder):
        encoder = load_encoder(EncoderConfig(kind="transformers", source=str(vit_folder)))
        check(encoder)
        assert (encoder.dim, encoder.image_size) == (16, 16)


class TestTimm:
    def test_local_dir(self, tmp_path):
        import timm
        from timm.models import save_for_hf

        torch.manual_seed(0)
        model = timm.create_model("test_vit", num_classes=3)
        folder = tmp_path / "vit"
        save_for_hf(model, folder, model_config={"num_classes": 3})
        encoder = load_encoder(EncoderConfig(kind="timm", source=str(folder)))
        check(encoder)
        assert encoder.encode_text(["a"]) is None
        assert encoder.image_size == model.pretrained_cfg["input_size"][-1]


class TestRefusals:
    def test_absent_folder(self):
        with pytest.raises(ItemError, match="no such folder"):
            load_encoder(EncoderConfig(source="data/01_raw/starter/nope"))
        with pytest.raises(ItemError, match="no such folder"):
            encoder_id(EncoderConfig(source="/nope"))

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (ConnectionError("max retries"), "offline"),
            (GatedRepoError("401", response=SimpleNamespace(status_code=401, headers={}, request=None)), "gated"),
            (OSError("We couldn't connect to 'https://huggingface.co'"), "offline"),
            (RuntimeError("odd\nsecond line"), r"\(odd second line\)"),
            (RuntimeError("size mismatch for connector.weight"), "can't be loaded"),
        ],
    )
    def test_errors_of_the_libraries_are_explained(self, monkeypatch, error, message):
        from thesis_rec.images.encoders import torch_encoder

        monkeypatch.setattr(torch_encoder, "_timm", lambda *_: (_ for _ in ()).throw(error))
        with pytest.raises(ItemError, match=message) as caught:
            load_encoder(EncoderConfig(kind="timm", source="resnet18"))
        assert caught.value.hint

    def test_configuration_is_strict(self):
        with pytest.raises(ValidationError):
            EncoderConfig(kind="clip", source="x")
        with pytest.raises(ValidationError):
            EncoderConfig(source="x", model="y")

    def test_features_that_are_not_finite(self):
        encoder = colour_encoder()
        encoder._prepare = lambda pixels: pixels / 0
        with pytest.raises(ItemError, match="aren't finite"):
            encoder.encode(np.zeros((1, 8, 8, 3), np.uint8))
