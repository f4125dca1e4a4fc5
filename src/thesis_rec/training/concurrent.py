"""Train many small networks at once on one GPU.

A network of thirty thousand parameters leaves a large GPU idle: a training step is a few hundred kernels of a few
microseconds each, and Python needs longer to launch them than the GPU to run them. Here every job's whole training step
(choosing the batch, forward, backward, optimiser, learning-rate schedule) is captured once as a CUDA graph, and the
graphs of a dozen jobs are replayed round-robin on streams of their own.

What a step draws at random (batches, augmentation) is an input, prepared beforehand for all steps, so that the same job
on a CPU, where steps run one by one without graphs, sees the same data from the same initial weights.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

#: Computes a scalar loss from the module and the inputs of one step.
LossFunction = Callable[[nn.Module, Mapping[str, Tensor]], Tensor]

# Steps of each job between two looks at which jobs have ended.
_ROUND = 25


@dataclass(frozen=True)
class Optimisation:
    """AdamW (Loshchilov & Hutter 2019) with linear warm-up and cosine decay to zero.

    Attributes:
        steps: Number of updates.
        learning_rate: Peak learning rate.
        weight_decay: Decay of matrices and kernels; vectors (norms, biases) have none.
        warmup: Share of the steps in which the rate rises.
        clip: Largest norm of the gradient.
    """

    steps: int
    learning_rate: float
    weight_decay: float = 1e-4
    warmup: float = 0.1
    clip: float = 1.0

    def schedule(self) -> Tensor:
        """Learning rate of every step, ``(steps,)`` float32."""
        rise = max(1, round(self.warmup * self.steps))
        rates = [
            self.learning_rate
            * ((i + 1) / rise if i < rise else 0.5 * (1 + math.cos(math.pi * (i - rise) / max(1, self.steps - rise))))
            for i in range(self.steps)
        ]
        return torch.tensor(rates, dtype=torch.float32)


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


class StepRunner:
    """Runs the training steps of one module, as a replayed CUDA graph on a GPU or one by one on a CPU.

    Args:
        module: The network, already on ``device``, in training mode.
        loss: Loss of one step.
        inputs: Per-step inputs with equal numbers of rows.
        optimisation: How it is trained.
        device: Where.
        name: For the log.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: LossFunction,
        inputs: Mapping[str, Tensor],
        optimisation: Optimisation,
        device: str = "cpu",
        name: str = "",
    ) -> None:
        self.module = module
        self.loss = loss
        self.name = name
        self.optimisation = optimisation
        self.cuda = torch.device(device).type == "cuda"
        self.stream = torch.cuda.Stream() if self.cuda else None
        self.graph: torch.cuda.CUDAGraph | None = None
        with self.on_stream():
            self.inputs = {key: value.to(device) for key, value in inputs.items()}
            self.step = torch.zeros(1, dtype=torch.int64, device=device)
            self.schedule = optimisation.schedule().to(device)
            self.losses = torch.zeros(optimisation.steps, device=device)
            self.rate = torch.zeros((), device=device)
            self.optimiser = _adamw(module, optimisation, self.rate, self.cuda)
        self._initial: dict[str, Tensor] | None = None

    def on_stream(self) -> torch.cuda.StreamContext:
        """A context in which this runner's GPU work is queued; without effect on a CPU."""
        return torch.cuda.stream(self.stream)

    def eager_step(self) -> None:
        """One update, step counter included."""
        row = {key: value.index_select(0, self.step)[0] for key, value in self.inputs.items()}
        self.rate.copy_(self.schedule.index_select(0, self.step)[0])
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss(self.module, row)
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), self.optimisation.clip)
        self.optimiser.step()
        self.losses.index_copy_(0, self.step, loss.detach().reshape(1))
        self.step.add_(1)

    def capture(self) -> bool:
        """Capture the step as a CUDA graph and put everything back to the start.

        Returns:
            Whether it worked; where it did not, :meth:`advance` runs the steps one by one.
        """
        if not self.cuda:
            return False
        with self.on_stream():
            self.remember()
            # The first steps make the optimiser's state and let the libraries choose their kernels.
            for _ in range(2):
                self.eager_step()
            self.optimiser.zero_grad(set_to_none=True)
            self.graph = captured(self.eager_step, self.name)
        if self.graph is None:
            torch.cuda.synchronize()
            self.stream = torch.cuda.Stream()
        with self.on_stream():
            self.restart()
        return self.graph is not None

    def remember(self) -> None:
        """Keep the present weights and buffers as those that :meth:`restart` goes back to."""
        self._initial = {key: value.detach().clone() for key, value in self.module.state_dict().items()}

    def replace_initial(self, state: Mapping[str, Tensor]) -> None:
        """Make other weights those that :meth:`restart` goes back to; entries that are not named stay as they are."""
        assert self._initial is not None, "remember() comes first"
        with self.on_stream():
            for key, value in state.items():
                self._initial[key].copy_(value)

    def restart(self, inputs: Mapping[str, Tensor] | None = None) -> None:
        """Initial weights, an empty optimiser state and step zero, with other inputs of the same shapes if given."""
        with torch.no_grad():
            if self._initial is not None:
                state = self.module.state_dict()
                _copy_all([state[key] for key in self._initial], list(self._initial.values()))
            kept = [
                value for entry in self.optimiser.state.values() for value in entry.values() if torch.is_tensor(value)
            ]
            for value in kept:
                value.zero_()
            self.step.zero_()
            self.losses.zero_()
            for key, value in (inputs or {}).items():
                self.inputs[key].copy_(value, non_blocking=True)

    def advance(self, steps: int = 1) -> None:
        """Run some steps; on a GPU they are queued, not waited for."""
        with self.on_stream():
            for _ in range(steps):
                if self.graph is not None:
                    self.graph.replay()
                else:
                    self.eager_step()

    def final_loss(self) -> float:
        """Mean loss of the last tenth of the steps; waits for them."""
        last = max(1, self.optimisation.steps // 10)
        with self.on_stream():
            return float(self.losses[-last:].mean())


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


def prepare_device(device: str) -> None:
    """Settings under which small networks train fast on a GPU; nothing on a CPU."""
    if torch.device(device).type != "cuda":
        return
    # As many hardware queues as streams, else jobs wait for each other; read when CUDA starts.
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = False


def _adamw(module: nn.Module, settings: Optimisation, rate: Tensor, cuda: bool) -> torch.optim.AdamW:
    matrices = [p for p in module.parameters() if p.requires_grad and p.ndim >= 2]
    vectors = [p for p in module.parameters() if p.requires_grad and p.ndim < 2]
    groups = [
        {"params": params, "weight_decay": decay}
        for params, decay in ((matrices, settings.weight_decay), (vectors, 0.0))
        if params
    ]
    # One tensor as the rate of all groups, so that a captured step can change it.
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99), fused=True, capturable=cuda)


def _copy_all(targets: list[Tensor], sources: list[Tensor]) -> None:
    groups: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for target, source in zip(targets, sources, strict=True):
        pair = groups.setdefault(target.dtype, ([], []))
        pair[0].append(target)
        pair[1].append(source)
    for to, of in groups.values():
        torch._foreach_copy_(to, of)


def captured(work: Callable[[], object], name: str) -> torch.cuda.CUDAGraph | None:
    """Capture GPU work on the current stream as a graph.

    Args:
        work: Queues the work; it has run before, so that libraries are initialised.
        name: For the log.

    Returns:
        The graph, or None where the work can't be captured.
    """
    graph = torch.cuda.CUDAGraph()
    collecting = gc.isenabled()
    # Collecting garbage could free other graphs' memory in the middle of the capture.
    gc.disable()
    try:
        # Other graphs go on running meanwhile, so only this thread's calls are watched.
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            work()
        finally:
            graph.capture_end()
    except Exception as error:
        logger.warning("%s: no CUDA graph, work is queued piece by piece (%s)", name, _first_line(error))
        return None
    finally:
        if collecting:
            gc.enable()
    return graph


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
