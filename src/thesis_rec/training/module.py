"""What the training modules of all networks have in common: optimiser, schedule, logging."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import lightning
import torch
from torch import Tensor, nn

from thesis_rec.training.data import Batch
from thesis_rec.training.optimiser import cosine_with_warmup, parameter_groups
from thesis_rec.training.settings import FitSettings


class FitModule(lightning.LightningModule):
    """A network with its optimiser; subclasses say what the loss of a batch is.

    Args:
        network: The network to train; what a run returns is its state dict.
        settings: Optimiser and schedule.

    Attributes:
        monitor: The logged metric that early stopping, the plateau schedule and the choice of the best epoch watch; the
            training loss where there are no validation data.
        mode: ``min`` or ``max``.
    """

    network: nn.Module
    monitor: str = "val_loss"
    mode: Literal["min", "max"] = "min"

    def __init__(self, network: nn.Module, settings: FitSettings) -> None:
        super().__init__()
        self.network, self.settings = network, settings

    def losses(self, batch: Batch, training: bool) -> dict[str, Tensor]:
        """Scalars of a batch; ``loss`` is what is minimised, the others are logged beside it."""
        raise TypeError(f"{type(self).__name__} doesn't say what its losses are")

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """One optimisation step."""
        losses = self.losses(batch, training=True)
        self._log(losses, "train", batch)
        return losses["loss"]

    def validation_step(self, batch: Batch, _: int) -> None:
        """One batch of validation data."""
        self._log(self.losses(batch, training=False), "val", batch)

    def _log(self, losses: dict[str, Tensor], stage: str, batch: Batch) -> None:
        """Losses of a batch, whose means over the items of an epoch are its metrics."""
        named = {f"{stage}_{name}": value.detach() for name, value in losses.items()}
        size = len(next(iter(batch.values())))
        self.log_dict(named, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW with the schedule of the settings."""
        settings = self.settings
        groups = parameter_groups(self.network, settings.weight_decay)
        optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate)
        if settings.schedule == "constant":
            return optimiser
        if settings.schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimiser, mode=self.mode, factor=0.5, patience=settings.plateau_patience
            )
            return {"optimizer": optimiser, "lr_scheduler": {"scheduler": plateau, "monitor": self.monitor}}
        total = int(self.trainer.estimated_stepping_batches)
        schedule = partial(cosine_with_warmup, total=total, warmup=round(settings.warmup * total))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, schedule)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
