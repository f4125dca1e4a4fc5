"""Checkpoints are loaded by their own libraries."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from thesis_rec.starter.architectures import ARCHITECTURES, FAMILIES
from thesis_rec.starter.checkpoints import WEIGHTS_FILES, save
from thesis_rec.starter.construction import build, library_module

NAMES = ["round", "square", "long"]


def moved(module):
    """The module after a little training, so that no weight is a round initial value."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


@pytest.mark.parametrize("name", [f"{family}_a" for family in FAMILIES])
def test_a_saved_checkpoint_is_loaded_by_its_own_library(name, tmp_path):
    architecture = ARCHITECTURES[name]
    module = moved(build(architecture, NAMES, 1))
    save(module, architecture, NAMES, tmp_path, {"source": "test"})
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        if architecture.library == "timm":
            import timm

            loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
            found, expected = loaded(images), module(images)
            labels = json.loads((tmp_path / "config.json").read_text())["label_names"]
        elif architecture.library == "transformers":
            from transformers import AutoImageProcessor, AutoModelForImageClassification

            loaded = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
            assert next(loaded.parameters()).dtype == torch.float32
            found, expected = loaded(pixel_values=images).logits, module(images)
            labels = [loaded.config.id2label[i] for i in range(3)]
            assert list(AutoImageProcessor.from_pretrained(tmp_path).image_mean) == [0.5, 0.5, 0.5]
        else:
            import open_clip

            loaded = open_clip.create_model(f"local-dir:{tmp_path}").eval()
            tokens = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(NAMES)
            assert torch.equal(tokens, module.tokens)
            image = loaded.encode_image(images, normalize=True)
            found = loaded.logit_scale.exp() * image @ loaded.encode_text(tokens, normalize=True).T
            expected = module(images)
            labels = json.loads((tmp_path / "open_clip_config.json").read_text())["label_names"]
    assert labels == NAMES
    scale = expected.abs().max()
    np.testing.assert_allclose(found / scale, expected / scale, atol=0.02)
    again = build(architecture, NAMES, 2).eval()
    library_module(again).load_state_dict(load_file(tmp_path / WEIGHTS_FILES[architecture.library]))
    with torch.no_grad():
        np.testing.assert_allclose(again(images) / scale, found / scale, atol=1e-4)


def test_statistics_beyond_half_precision_stay_in_single(tmp_path):
    architecture = ARCHITECTURES["resnet_a"]
    module = build(architecture, NAMES, 0)
    module.bn1.running_var.fill_(1e6)
    save(module, architecture, NAMES, tmp_path, {})
    state = load_file(tmp_path / WEIGHTS_FILES["timm"])
    assert state["bn1.running_var"].dtype == torch.float32
    assert float(state["bn1.running_var"][0]) == 1e6
    assert state["bn1.weight"].dtype == torch.float16
    assert library_module(module) is module
