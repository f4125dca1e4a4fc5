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
import torch

from thesis_rec.images.encoders import EncoderConfig, encoder_id, load_encoder
from thesis_rec.images.encoders.libraries import _whole_open_clip
from thesis_rec.images.encoders.small_clip import is_plain
from thesis_rec.images.encoders.torch_encoder import TorchEncoder

CLIP = Path(__file__).parents[3] / "data" / "01_raw" / "starter" / "clip"
CONFIG = EncoderConfig(source=str(CLIP))


@pytest.fixture(scope="module")
def reference():
    return TorchEncoder(_whole_open_clip(CONFIG), encoder_id(CONFIG))


@pytest.mark.parametrize("side", [32, 48])
def test_features_and_depths_are_those_of_open_clip(reference, side):
    images = np.random.default_rng(0).integers(0, 256, (12, side, side, 3), dtype=np.uint8)
    ours = load_encoder(CONFIG)
    assert (ours.encoder_id, ours.image_size, ours.dim) == (reference.encoder_id, 32, reference.dim)
    np.testing.assert_allclose(ours.encode(images), reference.encode(images), atol=2e-6)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    for found, expected in zip(ours.encode_depths(pixels, 6)[1], reference.encode_depths(pixels, 6)[1], strict=True):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=2e-5)


def test_texts_are_those_of_open_clip(reference):
    texts = ["a photo of a cat", "a drawing of a flag"]
    np.testing.assert_allclose(load_encoder(CONFIG).encode_text(texts), reference.encode_text(texts), atol=2e-6)


def test_another_architecture_is_left_to_the_library(tmp_path):
    folder = tmp_path / "clip"
    shutil.copytree(CLIP, folder)
    assert is_plain(folder)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["attentional_pool"] = True
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    assert not is_plain(folder)


def test_encoding_imports_no_heavy_library():
    code = (
        "import sys, numpy as np\n"
        "from thesis_rec.images.encoders import EncoderConfig, load_encoder\n"
        f"load_encoder(EncoderConfig(source={str(CLIP)!r})).encode(np.zeros((2, 32, 32, 3), np.uint8))\n"
        "print([name for name in ('open_clip', 'torchvision', 'transformers', 'timm', 'torch._dynamo', 'kedro')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ}, check=True)
    assert done.stdout.strip() == "[]"
