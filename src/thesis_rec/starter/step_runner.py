"""The training steps of one small network, replayed as a CUDA graph on a GPU or run one by one on a CPU.

What a step draws at random (batches, augmentation) is an input, prepared beforehand for all steps, so that the same job
on a CPU, where steps run one by one without graphs, sees the same data from the same initial weights.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thesis_rec.training.optimiser import cosine_with_warmup, parameter_groups

logger = logging.getLogger(__name__)

#: Computes a scalar loss from the module and the inputs of one step.
LossFunction = Callable[[nn.Module, Mapping[str, Tensor]], Tensor]


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
        rates = [self.learning_rate * cosine_with_warmup(step, self.steps, rise) for step in range(self.steps)]
        return torch.tensor(rates, dtype=torch.float32)


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
            groups = parameter_groups(module, optimisation.weight_decay)
            # One tensor as the rate of all groups, so that a captured step can change it.
            self.optimiser = torch.optim.AdamW(
                groups, lr=self.rate, betas=(0.9, 0.99), fused=True, capturable=self.cuda
            )
            #: What :meth:`restart` goes back to.
            self._initial = {key: value.detach().clone() for key, value in module.state_dict().items()}

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
            Whether it worked; where it did not, as on a CPU, :meth:`advance` runs the steps one by one.
        """
        if not self.cuda:
            return False
        with self.on_stream():
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

    def restart(self) -> None:
        """Initial weights, an empty optimiser state and step zero."""
        with torch.no_grad():
            self.module.load_state_dict(self._initial)
            for entry in self.optimiser.state.values():
                for value in entry.values():
                    value.zero_()
            self.step.zero_()
            self.losses.zero_()

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
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        logger.warning("%s: no CUDA graph, work is queued piece by piece (%s)", name, reason)
        return None
    finally:
        if collecting:
            gc.enable()
    return graph


def prepare_device(device: str) -> None:
    """Settings under which small networks train fast on a GPU; nothing on a CPU."""
    if torch.device(device).type != "cuda":
        return
    # As many hardware queues as streams, else jobs wait for each other; read when CUDA starts.
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = False
