"""How fast ``kedro run --pipelines=dataset_features`` passes over datasets that are finished.

Generates datasets of the same twelve tiny images, NPZ files or folders, encodes the first one, gives its tokens to the
others, and times the same command for all, twice.

    python benchmarks/finished_datasets.py [--rows 20000] [--folders]

The last line is JSON; the exit status is 1 when a dataset was encoded again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from PIL import Image
from result import PROJECT, add_save_option, finish

CLASSES = ("ant", "bee", "cat")


def make_datasets(root: Path, names: list[str], folders: bool) -> None:
    """Datasets of the same random images, and their manifest."""
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    labels = np.repeat(np.arange(3), 4)
    for name in names:
        if not folders:
            np.savez(root / f"{name}.npz", train_images=images, train_labels=labels, class_names=np.array(CLASSES))
            continue
        for at, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = root / name / CLASSES[label] / f"{at}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)


def write_manifest(root: Path, names: list[str], folders: bool) -> None:
    rows = [f"{name},folder,{name}" if folders else f"{name},npz,{name}.npz" for name in names]
    columns = "dataset_id,loader,source,image_column,label_column,splits,domain,group,parent,class_subset"
    (root / "manifest.csv").write_text("\n".join([columns, *(f"{row},,,,,,," for row in rows), ""]))


def give_tokens(conf: Path, root: Path) -> None:
    """The tokens of the first dataset to all, each with the hash of its own row."""
    from thesis_rec.base.files import load_arrays, save_arrays
    from thesis_rec.images.encoders import encoder_id
    from thesis_rec.images.manifest import read_dataset_manifest
    from thesis_rec.pipelines.dataset_features.parameters import DatasetFeaturesParameters

    bootstrap_project(PROJECT)
    with KedroSession.create(project_path=PROJECT, conf_source=str(conf), env="many") as session:
        parameters = session.load_context().config_loader["parameters"]["dataset_features"]
    settings = DatasetFeaturesParameters(**parameters)
    rows, _ = read_dataset_manifest(pd.read_csv(root / "manifest.csv", dtype=str, keep_default_na=False))
    tokens = root / "data/04_feature/dataset_tokens"
    shard = load_arrays(tokens / rows[0].dataset_id / "train/00000.npz")
    for row in rows[1:]:
        hashed = np.array(settings.hash_for(row, "train", root, encoder_id(settings.encoder)))
        save_arrays(tokens / row.dataset_id / "train/00000.npz", shard | {"settings_hash": hashed})


def run(conf: Path) -> float:
    """Seconds of the command."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "kedro", "run", "--pipelines=dataset_features"]
    done = subprocess.run(
        [*command, f"--conf-source={conf}", "--env=many"],
        check=False,
        cwd=PROJECT,
        env={**os.environ, "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000, help="how many datasets")
    parser.add_argument("--folders", action="store_true", help="folders of PNG files rather than NPZ files")
    add_save_option(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        names = [f"set{number:06d}" for number in range(arguments.rows)]
        make_datasets(root, names, arguments.folders)
        shutil.copytree(PROJECT / "conf" / "base", root / "conf" / "base")
        many = root / "conf" / "many"
        many.mkdir()
        starter = {"dataset_manifest": f"{root}/manifest.csv", "images_root": str(root)}
        (many / "globals.yml").write_text(json.dumps({"data_root": f"{root}/data", "zoos": {"starter": starter}}))
        (many / "parameters.yml").write_text(json.dumps({"dataset_features": {"max_datasets": None}}))
        write_manifest(root, names[:1], arguments.folders)
        one = run(root / "conf")
        write_manifest(root, names, arguments.folders)
        give_tokens(root / "conf", root)
        tokens = list((root / "data/04_feature/dataset_tokens").glob("*/train/*.npz"))
        before = {path: path.stat().st_mtime_ns for path in tokens}
        seconds = [run(root / "conf") for _ in range(2)]
        again = sum(path.stat().st_mtime_ns != written for path, written in before.items())
    finish(
        {
            "benchmark": "finished_datasets",
            "device": f"{platform.processor() or platform.machine()}, 1 thread",
            "reference": "the command for one dataset, which is encoded",
            "ratio": seconds[1] / one,
            "datasets": len(before),
            "one_s": one,
            "again_s": seconds[0],
            "once_more_s": seconds[1],
            "encoded_again": again,
        },
        arguments.save,
        "Finished datasets",
        67,
        f"`kedro run --pipelines=dataset_features` for {arguments.rows} datasets whose tokens are there; the first of "
        "two such runs looks into each, the second knows them.",
    )
    sys.exit(again > 0)


if __name__ == "__main__":
    main()
