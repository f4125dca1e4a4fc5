"""How long it takes to try a model the size of ResNet-50 on one's own images, and how much memory.

What a try does is measured, in a process of its own: the network is built (random weights, which take as long as
trained ones), features of all images are extracted, and linear probes are fitted to them. Nothing is downloaded.

    python benchmarks/trying.py [--architecture resnet50] [--classes 10] [--per-class 60] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from result import draw_images, in_own_process

#: MiB that a try of a convolutional network at 224 x 224 may take on a CPU.
LIMIT_MB = 3 * 1024


def save_model(folder: Path, architecture: str) -> Path:
    """A network with random weights, as timm saves it."""
    import timm

    timm.models.save_for_hf(timm.create_model(architecture), folder)
    return folder


def try_once(model: Path, images: Path, threads: int) -> dict[str, float | str]:
    """Seconds and memory of one try."""
    import torch

    from thesis_rec.models.loaders import load_backbone
    from thesis_rec.models.model_manifest import ManifestRow
    from thesis_rec.recommendation.request import image_row
    from thesis_rec.recommendation.trying import _probe_images, linear_prober

    torch.set_num_threads(threads)
    row = ManifestRow(model_id="it", loader="timm", source=str(model))
    began = time.monotonic()
    read, _ = _probe_images(image_row(images), len(list(images.iterdir())))
    decoded = time.monotonic()
    linear_prober(read, "cpu", lambda _: load_backbone(row, Path(), "cpu"))("it")
    ended = time.monotonic()
    return {
        "images": len(read.train_labels) + len(read.test_labels),
        "threads": threads,
        "reading_s": round(decoded - began, 1),
        "trying_s": round(ended - decoded, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", default="resnet50")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--per-class", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", nargs=2, type=Path, metavar=("MODEL", "IMAGES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        sys.stdout.write(json.dumps(try_once(*options.one, options.threads)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        images = draw_images(Path(temporary) / "images", options.classes, options.per_class)
        model = save_model(Path(temporary) / "model", options.architecture)
        found = {"architecture": options.architecture}
        found |= in_own_process("--threads", options.threads, "--one", model, images)
    found |= {"limit_mb": LIMIT_MB, "holds": found["peak_mb"] <= LIMIT_MB, "load": os.getloadavg()[0]}
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
