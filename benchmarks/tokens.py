"""How close token extraction comes to what decoding or encoding alone would allow.

Three loops over the same JPEG files, in one run: decode and resize only, encode only, and the project's pipeline that
does both at once. The reference is the slower of the two bare loops. Then the pipeline runs over few and over many
images and its peak memory (proportional set size, worker processes included) is compared.

    python benchmarks/tokens.py                                  # CPU: a ViT-B/32 with RANDOM weights
    python benchmarks/tokens.py --device cuda --precision bf16 --workers 16 --images 40000 --flat 10000 200000

The last line is JSON.
"""

import itertools
import os
import statistics
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
from result import finish, parser_of


def write_images(folder: Path, count: int, side: int) -> list[Path]:
    """JPEG files of coloured clouds, as large as photographs of that size are."""
    from PIL import Image

    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        clouds = [rng.normal(size=(side // scale + 1, side // scale + 1, 3)) for scale in (64, 16, 4, 2)]
        layers = [np.kron(c, np.ones((s, s, 1)))[:side, :side] for c, s in zip(clouds, (64, 16, 4, 2), strict=True)]
        pixels = np.clip(128 + 40 * layers[0] + 25 * layers[1] + 12 * layers[2] + 6 * layers[3], 0, 255)
        paths.append(folder / f"{i}.jpg")
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def read(paths: list[Path], index: int):
    """Decode one file, through the same code as image folders."""
    from thesis_rec.images.decoding import decode_image

    return decode_image(paths[index % len(paths)])


def labelled(paths: list[Path], count: int, classes: int):
    """``count`` images made by reading the files again and again."""
    from thesis_rec.images.loading import LabelledImages

    labels = np.arange(count, dtype=np.int64) % classes
    names = [f"class {c}" for c in range(classes)]
    return LabelledImages("benchmark", labels, names, partial(read, paths), np.arange(count, dtype=np.int64))


class PeakMemory:
    """Largest proportional set size of this process and its children while the block runs, in MB."""

    def __enter__(self):
        self.peak = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _watch(self):
        import psutil

        me = psutil.Process(os.getpid())
        while not self._stop.wait(0.05):
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total / 2**20)


def pieces(count: int, batch: int) -> list[np.ndarray]:
    """Consecutive batches of indices."""
    return [np.arange(start, min(start + batch, count)) for start in range(0, count, batch)]


def rate(loop, count: int, repeats: int) -> float:
    """Images per second, median of the repeats."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        loop()
        seconds.append(time.perf_counter() - started)
    return count / statistics.median(seconds)


def main() -> None:
    """Run the three loops and the memory test."""
    parser = parser_of(__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--encoder", default="ViT-B-32", help="open_clip architecture, random weights")
    parser.add_argument("--compile", action="store_true", help="torch.compile the image tower")
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--files", type=int, default=256, help="distinct files; they are read again and again")
    parser.add_argument("--side", type=int, default=256, help="side of the files, in pixels")
    parser.add_argument("--batch", type=int, default=None)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--flat", type=int, nargs="+", default=[500, 5000], help="images of each memory test")
    options = parser.parse_args()

    import open_clip
    import torch

    from thesis_rec.images.encoders.streaming import BatchImages, decoded
    from thesis_rec.images.encoders.torch_encoder import TorchEncoder
    from thesis_rec.models.backbone import Backbone, preparation_of
    from thesis_rec.views.tokens import SplitTokens, TokenSettings, make_shards

    batch = options.batch or (256 if options.device == "cuda" else 32)
    model, _, prepare = open_clip.create_model_and_transforms(options.encoder)
    image = torch.compile(model.encode_image, dynamic=True) if options.compile else model.encode_image
    preparation = preparation_of(prepare)
    backbone = Backbone(f"open_clip:{options.encoder}", model, image, None, preparation)
    encoder = TorchEncoder(backbone, None, options.device, options.precision)
    if options.device == "cpu":
        # The encoder and the workers share the cores.
        torch.set_num_threads(max(1, (os.cpu_count() or 1)))
    cuda = encoder.device.type == "cuda"
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(Path(folder), options.files, options.side)
        images = labelled(paths, options.images, options.classes)
        numbers = range(options.images // options.classes)
        settings = TokenSettings(batch_size=batch, workers=options.workers)
        batches = pieces(len(numbers) * options.classes, batch)
        size = encoder.image_size
        chosen = BatchImages(images, numbers, size)
        host = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8)
        host = host.pin_memory() if cuda else host

        def decode_only():
            for _ in decoded(chosen, batches, options.workers):
                pass

        def encode_only():
            for index in batches:
                features = encoder.encode_tensor(host[: len(index)])
            features.cpu()

        def both():
            SplitTokens(encoder, images, settings).features(numbers)

        for loop in (encode_only, both):  # kernels are chosen and caches filled
            loop()
        decode, encode, pipeline = (rate(f, options.images, options.repeats) for f in (decode_only, encode_only, both))
        ratio = pipeline / min(decode, encode)
        print(f"encoder {encoder.encoder_id} (random weights), {options.device}, {options.precision}, batch {batch}")
        print(f"files {options.side} px JPEG, {options.workers} workers")
        print(f"{'loop':<28}{'images/s':>12}")
        for name, value in (("decode and resize only", decode), ("encode only", encode), ("pipeline", pipeline)):
            print(f"{name:<28}{value:>12.1f}")
        print(f"pipeline / smaller of the two: {ratio:.3f}")

        # Memory: a light encoder where the real one would take hours.
        light = encoder if cuda else _light_encoder(size)
        peaks = []
        for count in options.flat:
            many = labelled(paths, count, options.classes)
            made = 0
            with PeakMemory() as memory:
                batches = count // options.classes
                settings = TokenSettings(batches=batches, batch_size=batch, workers=options.workers)
                for _, shard in make_shards(SplitTokens(light, many, settings), "train", ""):
                    made += shard["features"].shape[0] * shard["features"].shape[1]
            peaks.append(memory.peak)
            print(f"peak memory over {made} images: {memory.peak:.0f} MB")
    finish(
        {
            "benchmark": "tokens",
            "device": torch.cuda.get_device_name(0) if cuda else "cpu",
            "encoder": encoder.encoder_id,
            "precision": options.precision,
            "compiled": options.compile,
            "workers": options.workers,
            "decode_images_per_s": round(decode, 1),
            "encode_images_per_s": round(encode, 1),
            "pipeline_images_per_s": round(pipeline, 1),
            "ratio": round(ratio, 4),
            "reference": "smaller of the bare decode and the bare encode loop",
            "memory_images": options.flat,
            "memory_mb": [round(peak, 1) for peak in peaks],
            "memory_growth": [round(more / fewer, 4) for fewer, more in itertools.pairwise(peaks)],
        },
        options.save,
        "Token extraction against bare decoding and encoding",
        59,
        "Images per second of three loops over the same JPEG files in one run, with random weights: decoding and "
        "resizing alone, encoding alone, and the pipeline that does both at once; and peak memory of all processes "
        "over few and over many images.",
    )


def _light_encoder(size: int):
    """Mean colours of a grid: nothing to compute, so that only the pipeline's own memory is seen."""
    from torch import nn

    from thesis_rec.images.encoders.torch_encoder import TorchEncoder
    from thesis_rec.models.backbone import Backbone, Preparation

    class MeanColours(nn.Module):
        def forward(self, pixels):
            return nn.functional.adaptive_avg_pool2d(pixels, 8).flatten(1)

    network = MeanColours()
    return TorchEncoder(Backbone("light", network, network, None, Preparation(size)))


if __name__ == "__main__":
    main()
