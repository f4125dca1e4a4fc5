"""How fast this processor multiplies matrices: what tells one that nobody measured from those that were.

Of Xeons with 1 to 16 cores and an EPYC with 1 and 2, each left out in turn, the hub's networks took the time of the
shipped measurements times (shipped rate / rate) to a power between 0.38 and 0.43. Further measurements
(``benchmarks/unmeasured_processor.py``): half of the times lie within a factor of 1.16 to 1.37 of what is told and 95 %
within 1.5 to 2.2, by processor; without the rate 95 % lie within 1.5 to 4.0, all to one side on sixteen cores.
"""

import re
import time
from functools import cache

import numpy as np

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
