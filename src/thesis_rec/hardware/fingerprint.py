"""Names of devices, what a measurement is only comparable with; and how fast this processor multiplies matrices.

That tells a processor that nobody measured from those that were. Of Xeons with 1 to 16 cores and an EPYC with 1 and 2,
each left out in turn, the hub's networks took the time of the shipped measurements times (shipped rate / rate) to a
power between 0.38 and 0.43. Further measurements (``benchmarks/unmeasured_processor.py``): half of the times lie within
a factor of 1.16 to 1.37 of what is told and 95 % within 1.5 to 2.2, by processor; without the rate 95 % lie within 1.5
to 4.0, all to one side on sixteen cores.
"""

import os
import platform
import re
import shutil
import sys
import time
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np

from thesis_rec.base.devices import processors, told_gpu, torch_device


def slug(text: str) -> str:
    """``text`` in lower case with everything but letters, digits and dots as single hyphens."""
    text = re.sub(r"\((r|tm)\)|\bcpu\b|\bprocessor\b|@.*$", " ", text.lower())
    return re.sub(r"[^a-z0-9.]+", "-", text).strip("-") or "unknown"


def device_id(device: str = "cpu") -> str:
    """One readable word for a torch device of this machine and the software that decides its speed.

    Such as ``cpu_amd-epyc-9b14_2c2t_torch2.11`` (cores of this process, threads of an operation) or
    ``cuda_nvidia-h200_sm90_torch2.11`` (compute capability); the key of hardware profiles.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    """
    import torch

    kind = device.partition(":")[0]
    if kind == "cpu":
        return _named("cpu", cpu_name(), f"{processors()}c{torch.get_num_threads()}t")
    if kind == "cuda":
        properties = torch.cuda.get_device_properties(torch.device(device))
        return _named("cuda", properties.name, f"sm{properties.major}{properties.minor}")
    return _named(kind, platform.machine(), "sm")


def _named(kind: str, name: str, size: str) -> str:
    version = ".".join(metadata.version("torch").split("+")[0].split(".")[:2])
    return f"{kind}_{slug(name)}_{size}_torch{version}"


def present_device(runs: bool = True) -> tuple[str, str]:
    """The torch device to work on, and its identifier.

    Torch, whose import takes seconds, is asked only where there is a GPU, and not of one that nothing is to run on.

    Args:
        runs: Whether models will run on it.
    """
    if not runs and "torch" not in sys.modules and (gpu := told_gpu()):
        return "cuda", _named("cuda", gpu.name, f"sm{gpu.capability.replace('.', '')}")
    if Path("/dev/nvidia0").exists() or (os.name == "nt" and shutil.which("nvidia-smi")) or "torch" in sys.modules:
        device = torch_device("auto")
        return device, device_id(device)
    return "cpu", _named("cpu", cpu_name(), f"{processors()}c{_default_threads()}t")


def _default_threads() -> int:
    """Threads that torch will use for one operation: as the environment says, else one for each physical core."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        if os.environ.get(name, "").isdigit():
            return max(1, int(os.environ[name]))
    try:
        allowed = os.sched_getaffinity(0)
        siblings = Path("/sys/devices/system/cpu")
        cores = {(siblings / f"cpu{i}/topology/thread_siblings_list").read_text() for i in allowed}
    except (AttributeError, OSError):
        return processors()
    return len(cores)


def cpu_name() -> str:
    """Model name of the processor."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8", errors="replace") if info.is_file() else ""
    told = re.findall(r"(?mi)^model name[ \t]*:[ \t]*(\S.*?)[ \t]*$", text)
    # A virtual machine may hide the name.
    known = next((name for name in told if name.lower() != "unknown"), "")
    return known or platform.processor() or platform.machine() or "unknown"


#: :func:`processor_rate` of processors that real models were measured on. This one is of what came out there, beside
#: other work.
MEASURED_RATES = {"cpu_intel-xeon_2c2t_torch2.11": 200.0}

#: A network's time falls with this power of the rate: much of it is memory, launches and what one thread does.
POWER = 0.4

#: What the rate doesn't tell.
FACTOR = 2.5


def processor_rate(device: str) -> float:
    """Rate of matrix products of this machine's processor in GFLOP/s (fp32), as if no one else used it.

    One thread is timed, which others hardly disturb, and counts for each of the threads of an operation.

    Args:
        device: Identifier of the processor, as :func:`~thesis_rec.hardware.fingerprint.device_id` has it.
    """
    from threadpoolctl import threadpool_info, threadpool_limits

    # Where the library's threads can't be limited (Apple's), one product is as fast as all cores together.
    limited = any(library["user_api"] == "blas" for library in threadpool_info())
    threads = re.search(r"_\d+c(\d+)t_", device)
    with threadpool_limits(1, user_api="blas"):
        rate = _matrix_rate() * (int(threads[1]) if limited and threads else 1)
    # Two digits: asked again, the same answer comes out.
    return float(f"{rate:.2g}")


@cache
def _matrix_rate(size: int = 512, seconds: float = 0.1) -> float:
    """Best rate of products of two random matrices in GFLOP/s, measured once in a process."""
    a = np.random.default_rng(0).random((size, size), dtype=np.float32)
    product, times = np.empty_like(a), list[float]()
    until = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until:
        started = time.perf_counter()
        np.matmul(a, a, out=product)
        times.append(time.perf_counter() - started)
    return 2e-9 * size**3 / min(times)
