"""How fast and how good the summary of a checkpoint is, against faiss, and what memory it needs.

For a checkpoint of ResNet-50's size and one of ViT-B/16's (RANDOM weights with heavy tails, written to a temporary
folder), in one run and with the same number of threads:

* ours: file -> vector of 8192 numbers, as the pipeline does it (compiled once before),
* faiss: file -> the same number of centroids by ``faiss.Kmeans(d=1, k)`` at its defaults,
* floor: one thread that finds the least and greatest value and counts a histogram of 4096 bins over the same values.

Errors are squared distances to the nearest centroid over the tensor's variance, averaged over tensors. Then half
precision is compared with single, and a large sharded checkpoint is summarised in a process of its own whose memory is
watched.

    uv run --with faiss-cpu python benchmarks/extraction.py
    uv run --with faiss-cpu python benchmarks/extraction.py --threads 1 --gigabytes 0.2 --repeats 3

Without faiss only the floor is compared. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from result import PROCESSOR, finish, in_own_process, parser_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thesis_rec.models.checkpoint_reader import StateReader

ARCHITECTURES = {"resnet50": "resnet50", "vit_b": "vit_base_patch16_224"}
LENGTH = 8192


def make_state(architecture: str) -> dict:
    """A network's tensors with random values: constants (norms, biases) jittered, then all stretched to heavy tails."""
    import timm
    import torch

    torch.manual_seed(0)
    state = {}
    for name, tensor in timm.create_model(architecture).state_dict().items():
        if tensor.is_floating_point():
            jittered = tensor + 0.05 * torch.randn_like(tensor) if tensor.ndim < 2 else tensor
            state[name] = (jittered * (1 + 0.5 * torch.randn_like(tensor).abs())).contiguous()
    return state


def median_seconds(function: Callable[[], object], repeats: int) -> float:
    """Median time of ``function``, after one call that isn't counted."""
    function()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def faiss_centroids(file: Path, threads: int) -> dict:
    """The centroids of every tensor by faiss at its defaults; tensors with no more values than clusters as they are."""
    import faiss
    import numpy as np
    from safetensors.torch import load_file

    faiss.omp_set_num_threads(threads)
    state = load_file(file)
    k = LENGTH // len(state)
    found = {}
    for name, tensor in state.items():
        values = tensor.numpy().reshape(-1, 1)
        if values.size <= k:
            found[name] = values.ravel()
            continue
        # This setting only silences a warning; everything else is as faiss has it.
        kmeans = faiss.Kmeans(d=1, k=k, min_points_per_centroid=1)
        kmeans.train(np.ascontiguousarray(values))
        found[name] = kmeans.centroids.ravel()
    return found


def mean_error(reader, centroids: dict) -> float:
    """Squared error over variance, averaged over the tensors that aren't constant."""
    import numpy as np

    errors = []
    for tensor in reader.tensors:
        values = tensor.values()
        spread = float(values.var(dtype="float64"))
        if spread > 0 and values.size > LENGTH // len(reader.tensors):
            ordered = np.sort(np.asarray(centroids[tensor.name], dtype=np.float64))
            nearest = ordered[np.searchsorted((ordered[1:] + ordered[:-1]) / 2, values)]
            errors.append(float(np.square(values - nearest).mean()) / spread)
    return statistics.fmean(errors)


def histogram_floor() -> Callable:
    """Compiled: least and greatest value, then counts in 4096 bins."""
    import numba
    import numpy as np

    @numba.njit
    def floor(values):
        low = high = values[0]
        for value in values:
            low = min(low, value)
            high = max(high, value)
        counts = np.zeros(4096, np.int64)
        scale = 4096 / (high - low) if high > low else 0.0
        for value in values:
            counts[min(int((value - low) * scale), 4095)] += 1
        return counts

    return floor


def parameter_vector(reader: StateReader, threads: int) -> NDArray[np.float32]:
    """The vector alone, as :func:`~.models.model_extraction.vector_and_spectra` makes it beside the spectra."""
    import numpy as np

    from thesis_rec.models.kmeans import kmeans_1d

    each, order = LENGTH // len(reader.tensors), sorted(reader.tensors, key=lambda tensor: -tensor.size)
    with ThreadPoolExecutor(threads) as pool:
        found = dict(zip(order, pool.map(lambda tensor: kmeans_1d(tensor.values(), each), order), strict=True))
    centres = np.concatenate([found[tensor] for tensor in reversed(reader.tensors)])
    return np.pad(centres, (0, LENGTH - centres.size))


def compare(name: str, architecture: str, folder: Path, arguments: argparse.Namespace) -> dict:
    """Times and errors for one checkpoint."""
    import numpy as np
    import torch
    from safetensors.torch import save_file

    from thesis_rec.models.checkpoint_reader import open_network
    from thesis_rec.models.kmeans import kmeans_1d

    torch.set_num_threads(arguments.threads)
    state = make_state(architecture)
    file = folder / f"{name}.safetensors"
    save_file(state, file)
    reader = open_network(file, name)
    k = LENGTH // len(reader.tensors)
    result = {"tensors": len(reader.tensors), "values": sum(t.size for t in reader.tensors), "clusters": k}

    def ours() -> np.ndarray:
        return parameter_vector(open_network(file, name), arguments.threads)

    floor = histogram_floor()
    arrays = [tensor.values() for tensor in reader.tensors]
    result["ours_s"] = median_seconds(ours, arguments.repeats)
    result["floor_s"] = median_seconds(lambda: [floor(values) for values in arrays], arguments.repeats)
    result["ours_over_floor"] = result["ours_s"] / result["floor_s"]
    result["ours_error"] = mean_error(reader, {t.name: kmeans_1d(t.values(), k) for t in reader.tensors})
    try:
        import faiss  # noqa: F401
    except ImportError:
        print("faiss isn't installed: run with `uv run --with faiss-cpu` to compare with it")
    else:
        result["faiss_s"] = median_seconds(lambda: faiss_centroids(file, arguments.threads), arguments.repeats)
        result["faiss_error"] = mean_error(reader, faiss_centroids(file, arguments.threads))
        result["faster_than_faiss"] = result["faiss_s"] / result["ours_s"]
        result["error_over_faiss"] = result["ours_error"] / result["faiss_error"]
    single = ours()
    for half in ("float16", "bfloat16"):
        rounded = folder / f"{name}-{half}.safetensors"
        save_file({key: value.to(getattr(torch, half)) for key, value in state.items()}, rounded)
        halves = open_network(rounded, name)
        vector = parameter_vector(halves, arguments.threads)
        result[f"{half}_difference"] = float(np.linalg.norm(vector - single) / np.linalg.norm(single))
        # Among few values several clusterings are as good as each other, and rounding chooses between them: what must
        # agree is how well the centroids fit the full-precision values.
        centroids = {t.name: kmeans_1d(t.values(), k) for t in halves.tensors}
        result[f"{half}_error_over_single"] = mean_error(reader, centroids) / result["ours_error"]
    return result


def write_sharded(folder: Path, gigabytes: float) -> int:
    """A sharded checkpoint of random float32 tensors of 64 MB each; returns the bytes of one."""
    import torch
    from safetensors.torch import save_file

    each = 64 << 20
    count = max(2, round(gigabytes * (1 << 30) / each))
    weight_map = {}
    for shard in range(0, count, 8):
        names = [f"layer{i}.weight" for i in range(shard, min(shard + 8, count))]
        file = f"model-{shard // 8 + 1:05d}.safetensors"
        save_file({name: torch.randn(each // 4) for name in names}, folder / file)
        weight_map |= dict.fromkeys(names, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return each


def watch_memory(folder: Path, threads: int) -> dict:
    """Peak memory of a vector beyond what the process had before, in MB: all that is resident, mapped files included.

    The peak is polled, because the operating system's own counter starts with the parent process's peak.
    """
    import numpy as np

    from thesis_rec.models.checkpoint_reader import open_network
    from thesis_rec.models.kmeans import kmeans_1d

    page = os.sysconf("SC_PAGE_SIZE")

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * page

    kmeans_1d(np.random.default_rng(0).standard_normal(100_000).astype(np.float32), 100)
    peaks = [resident()]
    before, done = peaks[0], threading.Event()

    def poll() -> None:
        while not done.wait(0.002):
            peaks.append(resident())

    watcher = threading.Thread(target=poll)
    watcher.start()
    started = time.perf_counter()
    reader = open_network(folder, "sharded")
    parameter_vector(reader, threads)
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    return {
        "checkpoint_mb": reader.n_bytes / 1e6,
        "largest_tensor_mb": max(tensor.size for tensor in reader.tensors) * 4 / 1e6,
        "threads": threads,
        "seconds": seconds,
        "start_mb": before / 1e6,
        "peak_beyond_start_mb": (max(peaks) - before) / 1e6,
    }


def main() -> None:
    """Run the benchmark."""
    parser = parser_of(__doc__)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of the sharded checkpoint")
    parser.add_argument("--folder", type=Path, help="where temporary files go")
    parser.add_argument("--watch", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.watch:
        print(json.dumps(watch_memory(arguments.watch, arguments.threads)))
        return
    results: dict[str, Any] = {
        "benchmark": "extraction",
        "device": f"{PROCESSOR}, {arguments.threads} threads",
        "reference": "faiss.Kmeans(d=1) at its defaults with the same threads, on the same file",
    }
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        for label, architecture in ARCHITECTURES.items():
            found = compare(label, architecture, folder, arguments)
            results[label] = found
            print(
                f"\n{label}: {found['tensors']} tensors, {found['values']:,} values, {found['clusters']} clusters each"
            )
            for key, value in list(found.items())[3:]:
                print(f"  {key:22s} {value:10.4g}")
        sharded = folder / "sharded"
        sharded.mkdir()
        write_sharded(sharded, arguments.gigabytes)
        for threads in dict.fromkeys((1, arguments.threads)):
            memory = in_own_process("--watch", sharded, "--threads", threads)
            results[f"memory_{threads}_threads"] = memory
            print("\nsharded checkpoint, {threads} thread(s): {checkpoint_mb:.0f} MB, largest tensor "
                  "{largest_tensor_mb:.0f} MB, peak {peak_beyond_start_mb:.0f} MB beyond the start, "
                  "{seconds:.1f} s".format(**memory))  # fmt: skip
    if all("faster_than_faiss" in results[label] for label in ARCHITECTURES):
        results["ratio"] = min(results[label]["faster_than_faiss"] for label in ARCHITECTURES)
    finish(
        results,
        arguments.save,
        "Extraction against faiss",
        58,
        "A checkpoint file to its vector, for checkpoints of ResNet-50's and of ViT-B/16's size with random weights: "
        "seconds (medians), squared errors over each tensor's variance, the time of one single-threaded pass that "
        "finds the range and counts a histogram (floor), vectors of half precision against single, and memory on a "
        "large sharded checkpoint.",
    )


if __name__ == "__main__":
    main()
