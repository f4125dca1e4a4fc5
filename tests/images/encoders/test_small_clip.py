"""The embedded encoder without open_clip: the same features, and none of the heavy imports."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.images.encoders.tiny import save_open_clip
from thesis_rec.images.encoders import EncoderConfig, load_encoder
from thesis_rec.images.encoders.small_clip import SmallClip
from thesis_rec.images.encoders.torch_encoder import load

CLIP = Path(__file__).parents[3] / "data" / "01_raw" / "starter" / "clip"
CONFIG = EncoderConfig(source=str(CLIP))


@pytest.fixture(scope="module")
def reference():
    return load(CONFIG)


def test_features_and_depths_are_those_of_open_clip(reference):
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    ours = load_encoder(CONFIG)
    assert (ours.encoder_id, ours.image_size, ours.dim) == (reference.encoder_id, 32, reference.dim)
    np.testing.assert_allclose(ours.encode(images), reference.encode(images), atol=2e-6)
    pixels = images.transpose(0, 3, 1, 2).astype(np.float32)
    for count in (6, 3):
        pairs = zip(ours.encode_depths(pixels, count)[1], reference.encode_depths(pixels, count)[1], strict=True)
        for found, expected in pairs:
            np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_class_token_may_stand_for_the_image(tmp_path):
    config = EncoderConfig(source=str(save_open_clip(tmp_path / "clip")))
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    ours = load_encoder(config)
    assert isinstance(ours, SmallClip)
    expected = load(config).encode(images)
    np.testing.assert_allclose(ours.encode(images), expected, atol=2e-6)


def test_texts_are_those_of_open_clip(reference):
    texts = ["a photo of a cat", "salt &amp; pepper", "word " * 90]
    np.testing.assert_allclose(load_encoder(CONFIG).encode_text(texts), reference.encode_text(texts), atol=2e-6)


def test_another_architecture_is_left_to_the_library(tmp_path):
    folder = tmp_path / "clip"
    shutil.copytree(CLIP, folder)
    assert isinstance(load_encoder(EncoderConfig(source=str(folder))), SmallClip)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["attentional_pool"] = True
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="no plain transformer"):
        SmallClip(folder, EncoderConfig(source=str(folder)))


def test_encoding_imports_no_heavy_library():
    code = (
        "import sys, numpy as np\n"
        "from thesis_rec.images.encoders import EncoderConfig, load_encoder\n"
        f"encoder = load_encoder(EncoderConfig(source={str(CLIP)!r}))\n"
        "encoder.encode(np.zeros((2, 32, 32, 3), np.uint8))\n"
        "print([name for name in ('open_clip', 'torchvision', 'transformers', 'timm', 'torch', 'kedro', 'scipy')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ}, check=True)
    assert done.stdout.strip() == "[]"
