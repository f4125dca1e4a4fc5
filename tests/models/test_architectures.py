"""Networks of bare state dicts: rebuilt from what they save, and from the real files where these are at hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.models.built_networks import CifarResNet, Conv4, DiCENet, ESPNetv2
from thesis_rec.base.errors import ItemError
from thesis_rec.models.architectures import ARCHITECTURES
from thesis_rec.models.backbone import Backbone
from thesis_rec.models.loaders import load_backbone
from thesis_rec.models.model_manifest import ManifestRow

NETWORKS = {
    "cifar_resnet": (lambda: CifarResNet((1, 2, 1), 4), "", 32, 64),
    "conv4": (lambda: Conv4(1, 8), "", 28, 8),
    "espnetv2": (lambda: ESPNetv2((16, 32, 64, 128), (1, 2)), "base_net.", 128, 128),
    "dicenet": (lambda: DiCENet(8, (16, 32), (28, 14), (1, 2)), "base_net.", 128, 32),
}
#: Accuracy that the networks were found to reach on the test images of the CIFAR-10 copy.
CIFAR_ACCURACY = {"resnet20-12fca82f.th": 0.8147, "resnet32-d509ac18.th": 0.8307, "resnet56-4bfd9763.th": 0.8347}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def row(loader: str, source: str) -> ManifestRow:
    return ManifestRow(model_id="the model", loader=loader, source=source)


def saved(loader: str, path) -> torch.nn.Module:
    """A network with random weights and statistics, saved as its authors do: from several GPUs, with a decoder."""
    make, prefix, _, _ = NETWORKS[loader]
    torch.manual_seed(0)
    network = make()
    for name, buffer in network.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
        elif name.endswith("running_mean"):
            buffer.normal_()
    state = {f"module.{prefix}{name}": tensor for name, tensor in network.state_dict().items()}
    if prefix:
        state["module.decoder.weight"] = torch.ones(3)
    torch.save({"state_dict": state, "epoch": 3}, path)
    return network.eval()


@pytest.mark.parametrize("loader", ARCHITECTURES)
def test_a_saved_network_is_rebuilt_from_its_weights_alone(loader, tmp_path):
    network = saved(loader, tmp_path / "m.pth")
    _, _, size, width = NETWORKS[loader]
    backbone = load_backbone(row(loader, "m.pth"), tmp_path)
    assert (backbone.input_size, backbone.n_features) == (size, width)
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        assert torch.equal(backbone.features(images), network.features(images))
    assert (backbone.head is None) == (loader != "cifar_resnet")
    assert not backbone.network.training
    # Few-shot networks learned from Omniglot's white pictures, all others from ImageNet's colours.
    colours = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    expected = ((0.92206,) * 3, (0.08426,) * 3) if loader == "conv4" else colours
    assert (backbone.preparation.mean, backbone.preparation.std) == expected


def test_of_two_networks_in_a_file_the_chosen_one_is_built(tmp_path):
    states = {}
    for name in ("model", "model_ema"):
        network = saved("conv4", tmp_path / "m.pth")
        if name == "model_ema":
            torch.nn.init.ones_(next(network.parameters()))
        states[name] = {key: value.clone() for key, value in network.state_dict().items()}
    torch.save(states, tmp_path / "m.pth")
    images = torch.randn(2, 3, 28, 28)
    for member, expected in (("", "model"), ("model", "model"), ("model_ema", "model_ema")):
        network.load_state_dict(states[expected])
        backbone = load_backbone(row("conv4", "m.pth").model_copy(update={"member": member}), tmp_path)
        with torch.inference_mode():
            assert torch.equal(backbone.features(images), network.features(images))


@pytest.mark.parametrize("loader", ARCHITECTURES)
def test_features_follow_the_image_and_carry_gradients(loader, tmp_path):
    saved(loader, tmp_path / "m.pth")
    backbone = load_backbone(row(loader, "m.pth"), tmp_path)
    images = torch.randn(3, 3, backbone.input_size, backbone.input_size, requires_grad=True)
    features = backbone.features(images)
    # Random weights let little through eight blocks; blind they are not.
    assert features.std(0).max() > 1e-4
    features.sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("loader", ARCHITECTURES)
def test_it_is_trained_like_a_network_of_modules(loader, tmp_path):
    built = saved(loader, tmp_path / "m.pth").train()
    backbone = load_backbone(row(loader, "m.pth"), tmp_path)
    backbone.network.train()
    images = torch.randn(3, 3, backbone.input_size, backbone.input_size)
    for features in (built.features, backbone.features):
        features(images).square().sum().backward()
    grads = {name: parameter.grad for name, parameter in built.named_parameters() if parameter.grad is not None}
    assert len(grads) > 5
    ours = {name.replace("/", "."): parameter.grad for name, parameter in backbone.network.named_parameters()}
    for name, grad in grads.items():
        torch.testing.assert_close(ours[name], grad)
    buffers = {name.replace("/", "."): buffer for name, buffer in backbone.network.named_buffers()}
    assert buffers
    for name, buffer in buffers.items():
        assert torch.equal(buffer, dict(built.named_buffers())[name])


@pytest.mark.parametrize("loader", ARCHITECTURES)
def test_other_weights_are_refused(loader, tmp_path):
    torch.save({"fc.weight": torch.ones(2, 2)}, tmp_path / "other.pth")
    network = NETWORKS[loader][0]()
    prefix = NETWORKS[loader][1]
    lacking = {f"{prefix}{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save(lacking | {f"{prefix}layer9.weight": torch.ones(2, 2)}, tmp_path / "more.pth")
    del lacking[next(name for name in lacking if name.endswith("running_var"))]
    torch.save(lacking, tmp_path / "lacking.pth")
    for name in ("other.pth", "lacking.pth", "more.pth"):
        with pytest.raises(ItemError, match=f"{loader} can't build the network") as caught:
            load_backbone(row(loader, name), tmp_path)
        assert "loader column" in caught.value.hint


def test_the_real_checkpoints_are_built(shared_dir):
    kinds = {"res": "cifar_resnet", "dic": "dicenet", "esp": "espnetv2"}
    files = [file for file in (shared_dir / "data/checkpoints").iterdir() if file.suffix != ".md"]
    assert len(files) == 12
    for file in files:
        backbone = load_backbone(row(kinds.get(file.name[:3], "conv4"), str(file)), file.parent)
        with torch.inference_mode():
            features = backbone.features(torch.randn(2, 3, backbone.input_size, backbone.input_size))
        assert features.isfinite().all()
        assert features.std(0).max() > 0


def accuracy(backbone: Backbone, images: np.ndarray, labels: np.ndarray) -> float:
    mean, std = (
        torch.tensor(value).view(1, 3, 1, 1) * 255 for value in (backbone.preparation.mean, backbone.preparation.std)
    )
    hits = 0
    with torch.inference_mode():
        for start in range(0, len(images), 250):
            x = torch.from_numpy(images[start : start + 250]).permute(0, 3, 1, 2).float()
            logits = backbone.head(backbone.features((x - mean) / std))
            hits += int((logits.argmax(1).numpy() == labels[start : start + 250]).sum())
    return hits / len(images)


@pytest.mark.parametrize(("name", "expected"), CIFAR_ACCURACY.items())
def test_cifar_networks_recognise_what_they_were_trained_on(name, expected, shared_dir):
    with np.load(shared_dir / "data/images/cifar10.npz", allow_pickle=False) as content:
        images, labels = content["test_images"], content["test_labels"]
    backbone = load_backbone(row("cifar_resnet", str(shared_dir / "data/checkpoints" / name)), shared_dir)
    assert accuracy(backbone, images, labels) == pytest.approx(expected, abs=0.002)
