"""The order of layers made of names alone."""

from __future__ import annotations

import random

import pytest
import timm

from thesis_rec.models.checkpoint_reader import layer_key, layer_rank


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("layer2.0.conv1.weight", "layer10.0.conv1.weight"),
        ("conv1.weight", "layer1.0.conv1.weight"),
        ("layer4.2.conv3.weight", "fc.weight"),
        ("cls_token", "blocks.0.attn.qkv.weight"),
        ("patch_embed.proj.weight", "blocks.0.norm1.weight"),
        ("blocks.11.mlp.fc2.weight", "norm.weight"),
        ("norm.bias", "head.weight"),
        ("vit.embeddings.cls_token", "vit.encoder.layer.0.output.dense.weight"),
        ("vit.encoder.layer.11.output.dense.weight", "vit.layernorm.weight"),
        ("vit.layernorm.weight", "classifier.weight"),
        ("visual.conv1.weight", "visual.transformer.resblocks.0.ln_1.weight"),
        ("visual.transformer.resblocks.11.ln_1.weight", "visual.ln_post.weight"),
        ("conv_stem.weight", "blocks.0.0.bn1.weight"),
        ("blocks.6.0.conv.weight", "conv_head.weight"),
        ("vision_model.embeddings.patch_embedding.weight", "vision_model.encoder.layers.0.mlp.fc1.weight"),
    ],
)
def test_earlier_layers_come_first(first, then):
    assert layer_key(first) < layer_key(then)


def test_within_a_block_nothing_counts_as_stem_or_head():
    assert {layer_rank(name) for name in ("blocks.3.attn.proj.weight", "layers.0.norm.bias", "stages.1.fc.weight")} == {
        1
    }


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "mobilenetv3_small_050", "convnext_atto"])
def test_stem_and_head_of_real_networks_are_found(name):
    modules = list(timm.create_model(name).state_dict())
    ordered = sorted(modules, key=layer_key)
    shuffled = modules.copy()
    random.Random(0).shuffle(shuffled)
    assert sorted(shuffled, key=layer_key) == ordered
    third = len(modules) // 3
    # The order of names isn't the network's in every detail, but no layer moves from the start to the end.
    assert modules.index(ordered[0]) < third
    assert modules.index(ordered[-1]) >= len(modules) - third
    assert {ordered[-1], ordered[-2]} == {modules[-1], modules[-2]}
