"""Few-shot fine-tuning with a fixed recipe: the second protocol of the ground truth.

From 16 training images per class, a new linear head on the model's features and all layers below it are trained for 80
updates of 64 images with AdamW (cosine schedule with warm-up), images shifted by up to two pixels; then accuracy on
all test images of the task's classes is taken. Features are standardised by the batch and scaled before the head, which
makes the head learn faster than what is below it.
"""

import time
from collections.abc import Callable, Iterable
from functools import partial
from zlib import crc32

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from thesis_rec.base.tables import MeasuredTask
from thesis_rec.models.backbone import Backbone
from thesis_rec.training.optimiser import cosine_with_warmup, parameter_groups
from thesis_rec.truth.cells import ImageBank
from thesis_rec.truth.linear_probe import by_class
from thesis_rec.truth.performance_records import measured_records
from thesis_rec.truth.settings import HEAD_RATE, SHIFT, WEIGHT_DECAY, FineTuneRecipe

#: Test images of one pass.
EVALUATION = 256
#: Share of the updates in which the learning rate rises, and the largest norm of the gradient.
_WARMUP, _CLIP = 0.1, 1.0


def fine_tune(
    backbone: Backbone,
    bank: ImageBank,
    cells: Iterable[tuple[MeasuredTask, int]],
    settings: FineTuneRecipe,
    source: str = "measured",
) -> pd.DataFrame:
    """Fine-tune a model on several tasks and seeds, each time from its own weights, and measure each result.

    Args:
        backbone: The pre-trained model, which has its weights again afterwards.
        bank: Base tasks' images, all of one size, on the device that is used.
        cells: Tasks and seeds; a seed decides images, batches and shifts.
        settings: The recipe.
        source: Content of the table's ``source`` column.

    Returns:
        One row per cell, as of :func:`~thesis_rec.truth.performance_records.measured_records`: accuracy on the test
        images, numbers of training and test images, and seconds.

    Raises:
        ValueError: If images differ in size.
    """
    # TF32's precision suffices for training; features of the linear probe are in float32 proper.
    torch.backends.cuda.matmul.allow_tf32 = True
    backbone.network.requires_grad_(True).to(bank.device)
    images = partial(images_at, bank.pixels, backbone.preparation.on(bank.device))
    initial = {name: value.clone() for name, value in backbone.network.state_dict().items()}

    found = []
    for task, seed in cells:
        begun = time.perf_counter()
        members = [bank.classes[base][index] for base, index in task.members]
        module = TunedNetwork(backbone, len(members)).to(bank.device).train()
        n_train, *drawn = draw_batches(task, seed, bank, settings)
        _train(module, ((images(rows, shifts), labels) for rows, labels, shifts in zip(*drawn, strict=True)), settings)
        rows, labels = (torch.from_numpy(part).to(bank.device) for part in by_class([one.test for one in members]))
        module.eval()
        with torch.no_grad():
            predicted = torch.cat([module(images(part)).argmax(1) for part in rows.split(EVALUATION)])
        value = float((predicted == labels).double().mean())
        found.append((task.dataset_id, value, seed, n_train, time.perf_counter() - begun, len(rows)))
        backbone.network.load_state_dict(initial)
    return measured_records(found, model_id=backbone.model_id, protocol="fine_tune", source=source)


def _train(module: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], settings: FineTuneRecipe) -> None:
    """One update for each batch of images and labels."""
    groups, rise = parameter_groups(module, WEIGHT_DECAY), max(1, round(_WARMUP * settings.steps))
    optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.99), fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: cosine_with_warmup(step, settings.steps, rise))
    for images, labels in batches:
        optimiser.zero_grad()
        functional.cross_entropy(module(images), labels).backward()
        nn.utils.clip_grad_norm_(module.parameters(), _CLIP)
        optimiser.step()
        schedule.step()


class TunedNetwork(nn.Module):
    """A backbone with a new linear head; the head's input is scaled, which is a higher learning rate for it.

    Args:
        backbone: The model.
        n_classes: Outputs of the head.
    """

    def __init__(self, backbone: Backbone, n_classes: int) -> None:
        super().__init__()
        self.network = backbone.network
        self._features = backbone.features
        # Batch norm without parameters: features of all models come in one scale, as the linear probe has them.
        self.norm = nn.BatchNorm1d(backbone.n_features, affine=False)
        self.head = nn.Linear(backbone.n_features, n_classes)
        self.scale = HEAD_RATE * backbone.n_features**-0.5
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, C)`` of normalised images ``(B, 3, H, W)``."""
        return self.head(self.norm(self._features(images)) * self.scale)


def images_at(
    pixels: Tensor, prepare: Callable[[Tensor], Tensor], rows: Tensor, shifts: Tensor | None = None
) -> Tensor:
    """(B, 3, S, S) normalised images of the model's size: rows (B,) of all pixels, shifted by (B, 2) pixels."""
    places: tuple[Tensor, ...] = (rows,)
    if shifts is not None:
        down, across = (
            (torch.arange(side, device=rows.device) + shifts[:, axis, None]).clamp(0, side - 1)
            for axis, side in enumerate(pixels.shape[1:3])
        )
        places = rows[:, None, None], down[:, :, None], across[:, None, :]
    return prepare(pixels[places].permute(0, 3, 1, 2).float()).contiguous()


def draw_batches(
    task: MeasuredTask, seed: int, bank: ImageBank, settings: FineTuneRecipe
) -> tuple[int, Tensor, Tensor, Tensor]:
    """Draw the batches of one cell.

    Args:
        task: The task.
        seed: Together with the task's name it decides images, batches and shifts.
        bank: Images of the base tasks, all of one size.
        settings: The recipe.

    Returns:
        Number of training images; rows (steps, batch) of the bank's images, their labels (steps, batch) and shifts
        (steps, batch, 2) in pixels.
    """
    rng = np.random.default_rng([seed, crc32(task.dataset_id.encode())])
    members = [bank.classes[base][index] for base, index in task.members]
    counts = [max(1, min(settings.shots, (3 * len(member.train)) // 4)) for member in members]
    rows, labels = by_class([rng.permutation(m.train)[:count] for m, count in zip(members, counts, strict=True)])
    wanted = settings.steps * settings.batch
    order = np.concatenate([rng.permutation(len(rows)) for _ in range(-(-wanted // len(rows)))])[:wanted]
    order = order.reshape(settings.steps, settings.batch)
    shifts = rng.integers(-SHIFT, SHIFT + 1, (settings.steps, settings.batch, 2))
    own, classes, moved = (torch.from_numpy(part).to(bank.device) for part in (rows[order], labels[order], shifts))
    return len(rows), own, classes, moved
