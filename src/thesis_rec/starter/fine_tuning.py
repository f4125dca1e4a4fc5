"""Fine-tuning many small networks on one GPU: the recipe of :mod:`thesis_rec.truth.fine_tune`, as often as a zoo needs.

On a GPU each model's training step is captured once as a CUDA graph and replayed for all its tasks and seeds, by
several copies of the model at a time; on a CPU one copy runs the same steps one by one on the same batches. The head
has as many outputs as the largest task has classes; logits of outputs that a task doesn't use are masked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from thesis_rec.base.tables import MeasuredTask
from thesis_rec.models.backbone import Backbone
from thesis_rec.starter.step_runner import Optimisation, StepRunner, prepare_device
from thesis_rec.truth.fine_tune import COLUMNS, EVALUATION, TunedNetwork, draw_batches, images_at
from thesis_rec.truth.image_bank import ImageBank
from thesis_rec.truth.linear_probe import by_class
from thesis_rec.truth.settings import FineTuneSettings

#: Added to the logits of outputs that a task doesn't use.
_MASKED = -1e4


class FineTuner:
    """Fine-tunes one model on several tasks; copies of it and their captured steps are kept between calls.

    Args:
        load: Makes the pre-trained model afresh, on the CPU.
        bank: Base tasks' images, all of one size, on the device that is used.
        largest: Outputs of the head: classes of the largest task that will be asked for.
        settings: The recipe.
        slots: Copies of the model that train at once on a GPU.

    Raises:
        ValueError: If images differ in size.
    """

    def __init__(
        self, load: Callable[[], Backbone], bank: ImageBank, largest: int, settings: FineTuneSettings, slots: int = 12
    ) -> None:
        prepare_device(bank.device)
        self.load, self.bank, self.largest, self.settings, self.slots = load, bank, largest, settings, slots
        self.pixels = bank.pixels
        self._copies: list[_Copy] = []

    def measure(self, cells: Sequence[tuple[MeasuredTask, int]]) -> pd.DataFrame:
        """Fine-tune the model on several tasks and seeds and measure each result.

        Args:
            cells: Tasks and seeds, one at least; a seed decides images, batches and shifts.

        Returns:
            One row per cell with the columns :data:`COLUMNS`: accuracy on the test images, numbers of training and test
            images, and the cell's share of the wall time in seconds.
        """
        begun = time.perf_counter()
        plans = [plan_cell(task, seed, self.bank, self.settings, self.largest) for task, seed in cells]
        if not self._copies:
            self._make_copies(plans)
        accuracies: list[float] = []
        # Each of the copies trains another cell meanwhile.
        for start in range(0, len(plans), len(self._copies)):
            accuracies += self._accuracies(plans[start : start + len(self._copies)])
        table = {
            "model_id": self._copies[0].model_id,
            "dataset_id": [task.dataset_id for task, _ in cells],
            "protocol": "fine_tune",
            "metric": "accuracy",
            "value": accuracies,
            "seed": [seed for _, seed in cells],
            "n_train": [plan.n_train for plan in plans],
            "source": self.settings.source,
            "seconds": (time.perf_counter() - begun) / len(plans),
            "n_test": [len(plan.test_labels) for plan in plans],
        }
        return pd.DataFrame(table, columns=COLUMNS)

    def _make_copies(self, plans: Sequence[CellPlan]) -> None:
        for plan in plans[: self.slots]:
            self._copies.append(_Copy(self, plan))
            if not self._copies[-1].runner.capture():
                # Without graphs Python is the bottleneck: more copies would only wait for it.
                break

    def _accuracies(self, plans: Sequence[CellPlan]) -> list[float]:
        """Train and test one cell on each copy, all at once."""
        pairs = list(zip(self._copies, plans, strict=False))
        for copy, plan in pairs:
            with copy.runner.on_stream():
                copy.runner.restart(plan.inputs)
        for _ in range(self.settings.steps):
            for copy, _ in pairs:
                copy.runner.advance()
        predicted = [copy.predict(plan) for copy, plan in pairs]
        if self.pixels.is_cuda:
            torch.cuda.synchronize()
        right = [found.cpu().numpy() == plan.test_labels for found, plan in zip(predicted, plans, strict=True)]
        return [float(one.mean()) for one in right]


class _Copy:
    """One copy of a model with a new head: its training steps, and its predictions."""

    def __init__(self, tuner: FineTuner, plan: CellPlan) -> None:
        settings, device, backbone = tuner.settings, tuner.bank.device, tuner.load()
        module = TunedNetwork(backbone, tuner.largest, settings.head_rate)
        module.requires_grad_(True).to(device).train()
        self.model_id = backbone.model_id
        self._images = partial(images_at, tuner.pixels, backbone.preparation.on(device))
        optimisation = Optimisation(settings.steps, settings.learning_rate, settings.weight_decay)
        self.runner = StepRunner(module, self._loss, plan.inputs, optimisation, device, self.model_id)

    def _loss(self, tuned: nn.Module, row: Mapping[str, Tensor]) -> Tensor:
        logits = tuned(self._images(row["rows"], row["shifts"])) + row["mask"]
        return functional.cross_entropy(logits, row["labels"])

    @torch.no_grad()
    def predict(self, plan: CellPlan) -> Tensor:
        """(T,) classes of a cell's test images, queued on the runner's stream."""
        module = self.runner.module.eval()
        with self.runner.on_stream():
            chunks = torch.from_numpy(plan.test_rows).to(self.runner.step.device).split(EVALUATION)
            found = torch.cat([module(self._images(rows))[:, : plan.classes].argmax(1) for rows in chunks])
        module.train()
        return found


@dataclass
class CellPlan:
    """One cell's random choices and test images.

    Attributes:
        classes: Number of the task's classes.
        inputs: What each update takes, by name, one row per update.
        test_rows: (T,) rows of the test images.
        test_labels: (T,) their classes.
        n_train: Number of training images.
    """

    classes: int
    inputs: dict[str, Tensor]
    test_rows: NDArray[np.int64]
    test_labels: NDArray[np.int64]
    n_train: int


def plan_cell(task: MeasuredTask, seed: int, bank: ImageBank, settings: FineTuneSettings, largest: int) -> CellPlan:
    """Draw the batches of one cell.

    Args:
        task: The task.
        seed: Together with the task's name it decides images, batches and shifts.
        bank: Images of the base tasks, all of one size.
        settings: The recipe.
        largest: Outputs of the head, C; those beyond the task's classes are masked.

    Returns:
        The cell's plan; its inputs have one row per update: ``rows`` and ``labels`` (steps, batch), ``shifts`` in
        pixels (steps, batch, 2) and ``mask`` (steps, C).
    """
    n_train, rows, labels, shifts = draw_batches(task, seed, bank, settings)
    mask = torch.full((settings.steps, largest), _MASKED, device=bank.device)
    mask[:, : len(task.members)] = 0.0
    inputs = {"rows": rows, "labels": labels, "shifts": shifts, "mask": mask}
    members = [bank.classes[base][index] for base, index in task.members]
    return CellPlan(len(members), inputs, *by_class([member.test for member in members]), n_train)
