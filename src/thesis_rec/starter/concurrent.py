"""Train many small networks at once on one GPU.

A network of thirty thousand parameters leaves a large GPU idle: a training step is a few hundred kernels of a few
microseconds each, and Python needs longer to launch them than the GPU to run them. Here every job's whole training step
(choosing the batch, forward, backward, optimiser, learning-rate schedule) is captured once as a CUDA graph
(:mod:`thesis_rec.starter.step_runner`), and the graphs of a dozen jobs are replayed round-robin on streams of their
own.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from thesis_rec.starter.step_runner import LossFunction, Optimisation, StepRunner, prepare_device

# Steps of each job between two looks at which jobs have ended.
_ROUND = 25


@dataclass
class TrainingJob:
    """One network to train.

    Attributes:
        name: For logs and results.
        module: The network; it is trained in place and ends on the CPU in evaluation mode.
        loss: Loss of one step.
        inputs: Per-step inputs, each with ``steps`` rows; a step sees one row of each.
        optimisation: How it is trained.
    """

    name: str
    module: nn.Module
    loss: LossFunction
    inputs: dict[str, Tensor]
    optimisation: Optimisation


@dataclass
class TrainingOutcome:
    """What became of a job.

    Attributes:
        job: The job, its module trained.
        loss: Mean loss of the last tenth of the steps; NaN when training diverged.
        seconds: Its share of the wall time.
        captured: Whether a CUDA graph was used.
    """

    job: TrainingJob
    loss: float
    seconds: float
    captured: bool


@dataclass
class _Clock:
    last: float = field(default_factory=time.perf_counter)

    def lap(self) -> float:
        now = time.perf_counter()
        elapsed, self.last = now - self.last, now
        return elapsed


def train_concurrently(
    jobs: Iterable[TrainingJob], device: str = "cpu", slots: int = 12, deadline: float | None = None
) -> Iterator[TrainingOutcome]:
    """Train jobs, several at a time on a GPU, one after the other on a CPU.

    Args:
        jobs: What to train; taken only when there is a free slot, so that a generator can build modules late.
        device: ``cpu`` or ``cuda``.
        slots: Jobs that run at once on a GPU.
        deadline: ``time.monotonic()`` after which no further job is begun; those begun are finished.

    Yields:
        An outcome as soon as a job has ended, in no fixed order on a GPU.
    """
    prepare_device(device)
    slots = slots if torch.device(device).type == "cuda" else 1
    queue = iter(jobs)
    active: list[tuple[TrainingJob, StepRunner, _Share]] = []
    clock = _Clock()
    exhausted = False
    while True:
        while len(active) < slots and not exhausted:
            if deadline is not None and time.monotonic() > deadline:
                exhausted = True
                break
            job = next(queue, None)
            if job is None:
                exhausted = True
                break
            active.append((job, _begin(job, device), _Share()))
            # The others work on while the next one is captured.
            for _, runner, share in active[:-1]:
                share.queue(runner, _ROUND // 5)
        if not active:
            return
        for _ in range(_ROUND):
            for _, runner, share in active:
                share.queue(runner, 1)
        ended = [entry for entry in active if entry[2].done >= entry[0].optimisation.steps]
        if slots > 1:
            # Bounds how far the queues run ahead of the GPU.
            for _, runner, _ in active:
                assert runner.stream is not None
                runner.stream.synchronize()
        lap = clock.lap() / len(active)
        for _, _, share in active:
            share.seconds += lap
        for entry in ended:
            active.remove(entry)
            job, runner, share = entry
            loss = runner.final_loss()
            runner.graph = None
            job.module.zero_grad(set_to_none=True)
            job.module.cpu().eval()
            captured = share.captured
            job.inputs = {}
            yield TrainingOutcome(job, loss, share.seconds, captured)


@dataclass
class _Share:
    done: int = 0
    seconds: float = 0.0
    captured: bool = False

    def queue(self, runner: StepRunner, steps: int) -> None:
        steps = min(steps, runner.optimisation.steps - self.done)
        if steps > 0:
            runner.advance(steps)
            self.done += steps
        self.captured = runner.graph is not None


def _begin(job: TrainingJob, device: str) -> StepRunner:
    job.module.to(device).train()
    runner = StepRunner(job.module, job.loss, job.inputs, job.optimisation, device, job.name)
    runner.capture()
    return runner
