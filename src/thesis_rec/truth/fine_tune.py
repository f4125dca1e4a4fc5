"""Few-shot fine-tuning with a fixed recipe: the second protocol of the ground truth.

From 16 training images per class, a new linear head on the model's features and all layers below it are trained for 80
updates of 64 images with AdamW (cosine schedule with warm-up), images shifted by up to two pixels; then accuracy on
all test images of the task's classes is taken. Features are standardised by the batch and scaled before the head, which
makes the head learn faster than what is below it. The head has as many outputs as the largest task has classes; logits
of outputs that a task doesn't use are masked.

On a GPU each model's training step is captured once as a CUDA graph and replayed for all its tasks and seeds, by
several copies of the model at a time; on a CPU the same steps run one by one on the same batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from thesis_rec.training.step_runner import Optimisation, StepRunner, captured, prepare_device
from thesis_rec.truth.image_bank import ImageBank

if TYPE_CHECKING:
    from thesis_rec.base.tables import MeasuredTask, TaskImages
    from thesis_rec.models.backbone import Backbone

#: Columns of the result: those of ``performance_records`` and the cost.
COLUMNS = ["model_id", "dataset_id", "protocol", "metric", "value", "seed", "n_train", "source", "seconds"]
#: Images of one evaluation pass on a GPU; test sets are padded to a multiple of it.
_EVALUATION = 960


@dataclass(frozen=True)
class FineTuneSettings:
    """The recipe.

    Attributes:
        shots: Training images of each class; at most three quarters of those there are.
        steps: Updates.
        batch: Images of an update.
        learning_rate: Peak learning rate of the backbone.
        head_rate: How many times faster the new head learns.
        weight_decay: AdamW's.
        shift: Largest shift of a training image, in pixels.
        slots: Copies of a model that train at once on a GPU.
        source: Value of the result's ``source`` column.
    """

    shots: int = 16
    steps: int = 80
    batch: int = 64
    learning_rate: float = 2e-3
    head_rate: float = 5.0
    weight_decay: float = 1e-4
    shift: int = 2
    slots: int = 12
    source: str = "measured"


Cell = tuple["MeasuredTask", int]


class FineTuner:
    """Fine-tunes many models on the same tasks; keeps images on the device and captured steps between models.

    Args:
        tasks: All tasks that will be asked for; the largest decides the head's size.
        images: Base tasks' images, all of one size.
        settings: The recipe.
        device: ``cpu`` or ``cuda``.

    Raises:
        ValueError: If images differ in size.
    """

    def __init__(
        self,
        tasks: Sequence[MeasuredTask],
        images: Mapping[str, TaskImages],
        settings: FineTuneSettings,
        device: str = "cpu",
    ) -> None:
        prepare_device(device)
        bases = list(dict.fromkeys(base for task in tasks for base, _ in task.members))
        self.settings = settings
        self.device = device
        self.bank = ImageBank({base: images[base] for base in bases}, device)
        self.pixels = self.bank.pixels
        self.largest = max(len(task.members) for task in tasks)
        self._key: object = None
        self._workers: list[tuple[StepRunner, _Evaluation]] = []

    def measure(self, backbone_factory: Callable[[], Backbone], model_id: str, cells: Sequence[Cell]) -> pd.DataFrame:
        """Fine-tune one model on several tasks and seeds and measure each result.

        Args:
            backbone_factory: Makes the pre-trained model afresh, on the CPU.
            model_id: For the table.
            cells: Tasks and seeds; a seed decides images, batches and shifts.

        Returns:
            One row per cell with the columns :data:`COLUMNS`: accuracy on the test images, number of training images,
            and the cell's share of the wall time in seconds.
        """
        begun = time.perf_counter()
        plans = [plan_cell(task, seed, self.bank, self.settings, self.largest, self.device) for task, seed in cells]
        run = self._on_gpu if torch.device(self.device).type == "cuda" else self._on_cpu
        accuracies = run(backbone_factory, plans, model_id) if plans else []
        share = (time.perf_counter() - begun) / max(1, len(plans))
        table = {
            "model_id": model_id,
            "dataset_id": [plan.task.dataset_id for plan in plans],
            "protocol": "fine_tune",
            "metric": "accuracy",
            "value": accuracies,
            "seed": [plan.seed for plan in plans],
            "n_train": [plan.n_train for plan in plans],
            "source": self.settings.source,
            "seconds": share,
        }
        return pd.DataFrame(table, columns=COLUMNS)

    def _trainee(self, backbone: Backbone, plan: CellPlan, name: str) -> tuple[StepRunner, Callable[[Tensor], Tensor]]:
        """The runner of a model's steps, and a function from rows to logits."""
        settings = self.settings
        module = TunedNetwork(backbone, self.largest, settings.head_rate)
        for parameter in module.parameters():
            parameter.requires_grad_(True)
        module.to(self.device).train()
        prepare = image_preparation(self.pixels, backbone)

        def loss(tuned: nn.Module, row: Mapping[str, Tensor]) -> Tensor:
            return functional.cross_entropy(tuned(prepare(row["rows"], row["shifts"])) + row["mask"], row["labels"])

        @torch.no_grad()
        def logits(rows: Tensor) -> Tensor:
            found: Tensor = module(prepare(rows, None))
            return found

        optimisation = Optimisation(settings.steps, settings.learning_rate, settings.weight_decay)
        return StepRunner(module, loss, plan.inputs, optimisation, self.device, name), logits

    def _on_cpu(self, backbone_factory: Callable[[], Backbone], plans: Sequence[CellPlan], name: str) -> list[float]:
        backbone = backbone_factory()
        initial = {key: value.clone() for key, value in backbone.network.state_dict().items()}
        accuracies = []
        for plan in plans:
            backbone.network.load_state_dict(initial)
            runner, logits = self._trainee(backbone, plan, name)
            runner.advance(self.settings.steps)
            runner.module.eval()
            classes = len(plan.task.members)
            chunks = torch.from_numpy(plan.test_rows).split(256)
            predicted = torch.cat([logits(rows)[:, :classes].argmax(1) for rows in chunks])
            accuracies.append(float((predicted.numpy() == plan.test_labels).mean()))
        return accuracies

    def _on_gpu(self, backbone_factory: Callable[[], Backbone], plans: Sequence[CellPlan], name: str) -> list[float]:
        first = backbone_factory()
        key = shape_key(first)
        if key != self._key:
            self._release()
            for number, plan in enumerate(plans[: self.settings.slots]):
                runner, logits = self._trainee(first if number == 0 else backbone_factory(), plan, name)
                captured = runner.capture()
                self._workers.append((runner, _Evaluation(runner, logits, self.largest, self.device)))
                if not captured and number:
                    # Without graphs Python is the bottleneck: more copies would only wait for it.
                    break
            self._key = key
            torch.cuda.synchronize()
        else:
            weights = feature_weights(first)
            for runner, _ in self._workers:
                runner.replace_initial({f"network.{k}": v for k, v in weights.items()})
        workers = self._workers
        predictions: dict[int, Tensor] = {}
        tests = [torch.from_numpy(plan.test_rows).to(self.device) for plan in plans]
        for begun in range(0, len(plans), len(workers)):
            pairs = list(zip(range(begun, min(begun + len(workers), len(plans))), workers, strict=False))
            for index, (runner, _) in pairs:
                with runner.on_stream():
                    runner.restart(plans[index].inputs)
            for _ in range(self.settings.steps):
                for _, (runner, _) in pairs:
                    runner.advance()
            for index, (_, evaluation) in pairs:
                predictions[index] = evaluation.predict(tests[index], plans[index].inputs["mask"][0])
        torch.cuda.synchronize()
        return [float((predictions[i].cpu().numpy() == plan.test_labels).mean()) for i, plan in enumerate(plans)]

    def _release(self) -> None:
        for runner, evaluation in self._workers:
            runner.graph = evaluation.graph = None
        self._workers = []


class _Evaluation:
    """Predictions of a runner's module as a replayed CUDA graph over a fixed number of images."""

    def __init__(self, runner: StepRunner, logits: Callable[[Tensor], Tensor], largest: int, device: str) -> None:
        self.runner = runner
        with runner.on_stream():
            self.rows = torch.zeros(_EVALUATION, dtype=torch.int64, device=device)
            self.mask = torch.zeros(largest, device=device)
        self.logits = logits
        self.graph: torch.cuda.CUDAGraph | None = None
        runner.module.eval()
        with runner.on_stream():
            self.predicted = self._once()
            self.graph = captured(self._keep, runner.name)
        runner.module.train()

    def _keep(self) -> None:
        self.predicted = self._once()

    def _once(self) -> Tensor:
        return (self.logits(self.rows) + self.mask).argmax(1)

    def predict(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Classes of images ``(T,)``, queued on the runner's stream."""
        parts = []
        with self.runner.on_stream():
            self.mask.copy_(mask)
            for chunk in rows.split(_EVALUATION):
                self.rows[: len(chunk)].copy_(chunk)
                if self.graph is not None:
                    self.graph.replay()
                else:
                    self.runner.module.eval()
                    self.predicted = self._once()
                    self.runner.module.train()
                parts.append(self.predicted[: len(chunk)].clone())
            return torch.cat(parts)


class TunedNetwork(nn.Module):
    """A backbone with a new linear head; the head's input is scaled, which is a higher learning rate for it.

    Args:
        backbone: The model.
        n_classes: Outputs of the head.
        head_rate: How many times faster the head learns.
    """

    def __init__(self, backbone: Backbone, n_classes: int, head_rate: float) -> None:
        super().__init__()
        self.network = backbone.network
        self._features = backbone.features
        # Batch norm without parameters: features of all models come in one scale, as the linear probe has them.
        self.norm = nn.BatchNorm1d(backbone.n_features, affine=False)
        self.head = nn.Linear(backbone.n_features, n_classes)
        self.scale = head_rate * backbone.n_features**-0.5
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, C)`` of normalised images ``(B, 3, H, W)``."""
        logits: Tensor = self.head(self.norm(self._features(images)) * self.scale)
        return logits


def _head_names(backbone: Backbone) -> set[str]:
    """State entries of the source head, which features don't use; their shapes differ between sources."""
    if not isinstance(backbone.head, nn.Module):
        return set()
    own = {tensor.data_ptr() for tensor in backbone.head.state_dict().values()}
    return {key for key, value in backbone.network.state_dict().items() if value.data_ptr() in own}


def feature_weights(backbone: Backbone) -> dict[str, Tensor]:
    """State entries that features use, by name: all but those of the source head."""
    skipped = _head_names(backbone)
    return {key: value for key, value in backbone.network.state_dict().items() if key not in skipped}


def shape_key(backbone: Backbone) -> object:
    """What two models must share so that one's captured steps serve the other."""
    shapes = tuple((key, tuple(value.shape)) for key, value in feature_weights(backbone).items())
    return type(backbone.network), shapes, backbone.n_features, backbone.preparation


#: Added to the logits of outputs that a task doesn't use.
_MASKED = -1e4


@dataclass
class CellPlan:
    """One cell's random choices and test images.

    Attributes:
        task: The task.
        seed: Seed of the choices.
        inputs: What each update takes, by name, one row per update.
        test_rows: (T,) rows of the test images.
        test_labels: (T,) their classes.
        n_train: Number of training images.
    """

    task: MeasuredTask
    seed: int
    inputs: dict[str, Tensor]
    test_rows: NDArray[np.int64]
    test_labels: NDArray[np.int64]
    n_train: int


def plan_cell(
    task: MeasuredTask, seed: int, bank: ImageBank, settings: FineTuneSettings, largest: int, device: str
) -> CellPlan:
    """Draw the batches of one cell.

    Args:
        task: The task.
        seed: Together with the task's name it decides images, batches and shifts.
        bank: Images of the base tasks, all of one size.
        settings: The recipe.
        largest: Outputs of the head, C; those beyond the task's classes are masked.
        device: Torch device of the inputs.

    Returns:
        The cell's plan; its inputs have one row per update: ``rows`` and ``labels`` (steps, batch), ``shifts`` in
        pixels (steps, batch, 2) and ``mask`` (steps, C).
    """
    rng = np.random.default_rng([seed, crc32(task.dataset_id.encode())])
    chosen, labels = [], []
    members = [bank.classes[base][index] for base, index in task.members]
    for index, rows in enumerate(member.train for member in members):
        count = max(1, min(settings.shots, (3 * len(rows)) // 4))
        chosen.append(rng.permutation(rows)[:count])
        labels.append(np.full(len(chosen[-1]), index))
    rows, targets = np.concatenate(chosen), np.concatenate(labels)
    wanted = settings.steps * settings.batch
    order = np.concatenate([rng.permutation(len(rows)) for _ in range(-(-wanted // len(rows)))])[:wanted]
    order = order.reshape(settings.steps, settings.batch)
    mask = torch.full((settings.steps, largest), _MASKED)
    mask[:, : len(task.members)] = 0.0
    tests = [member.test for member in members]
    shifts = rng.integers(-settings.shift, settings.shift + 1, (settings.steps, settings.batch, 2))
    return CellPlan(
        task=task,
        seed=seed,
        inputs={
            "rows": torch.from_numpy(rows[order].astype(np.int64)).to(device),
            "labels": torch.from_numpy(targets[order].astype(np.int64)).to(device),
            "shifts": torch.from_numpy(shifts).to(device),
            "mask": mask.to(device),
        },
        test_rows=np.concatenate(tests).astype(np.int64),
        test_labels=np.concatenate([np.full(len(found), i) for i, found in enumerate(tests)]),
        n_train=len(rows),
    )


def image_preparation(pixels: Tensor, backbone: Backbone) -> Callable[[Tensor, Tensor | None], Tensor]:
    """A function from rows of the image tensor (and shifts) to normalised images of the model's size.

    Args:
        pixels: (N, H, W, 3) uint8.
        backbone: The model; decides how pictures are resized and normalised.

    Returns:
        A function of rows (B,) and shifts in pixels (B, 2), or None for no shifts, to (B, 3, S, S) float32.
    """
    prepared = backbone.preparation.on(pixels.device)
    height, width = pixels.shape[1:3]
    lines = torch.arange(height, device=pixels.device)[None]
    columns = torch.arange(width, device=pixels.device)[None]

    def prepare(rows: Tensor, shifts: Tensor | None) -> Tensor:
        if shifts is None:
            taken = pixels[rows]
        else:
            down = (lines + shifts[:, :1]).clamp(0, height - 1)
            across = (columns + shifts[:, 1:]).clamp(0, width - 1)
            taken = pixels[rows[:, None, None], down[:, :, None], across[:, None, :]]
        return prepared(taken.permute(0, 3, 1, 2).float()).contiguous()

    return prepare
