"""What happens around the epochs of a run: seeds, files, progress."""

from __future__ import annotations

import logging
import math
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping

from thesis_rec.base.files import atomic_path, write_json

logger = logging.getLogger(__name__)

HISTORY_FILE = "history.json"
BEST_FILE = "best.ckpt"

History = list[dict[str, Any]]


class ReseedEveryEpoch(Callback):
    """Random numbers of an epoch depend on seed, epoch and process alone, which makes a resumed run exact.

    Args:
        seed: Seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed the epoch; at its first batch, because Lightning doesn't announce the epoch that a run resumes with."""
        if batch_idx == 0:
            torch.manual_seed((self.seed * 1_000_003 + trainer.current_epoch) * 1_009 + trainer.global_rank)


class ExactEarlyStopping(EarlyStopping):
    """Early stopping that a resumed run remembers: Lightning restores its counter, but not that it had decided."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop again where the first run had stopped."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


class RunFiles(Checkpoint):
    """Keeps the files of a run: history after every epoch, checkpoints named by epoch, loss and time, the best weights.

    A checkpoint is complete when it has its name; the state to resume from is the one with the highest epoch.

    Args:
        folder: Folder of the run.
        description: What is trained, for a log line at every tenth of the run; None where a progress bar shows it.
    """

    def __init__(self, folder: Path, description: str | None = None) -> None:
        self.folder = folder
        self.description = description
        self.history: History = []
        self.best_epoch = -1
        self.best_value = math.inf
        self._epoch_started = 0.0

    def state_dict(self) -> dict[str, Any]:
        """History and best epoch travel in each checkpoint."""
        return {"history": self.history, "best_epoch": self.best_epoch, "best_value": self.best_value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up where the checkpoint was written."""
        self.history = list(state_dict["history"])
        self.best_epoch, self.best_value = state_dict["best_epoch"], state_dict["best_value"]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the clock."""
        if batch_idx == 0:
            self._epoch_started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Note the epoch's metrics; save what is due."""
        epoch, settings = trainer.current_epoch, pl_module.settings
        metrics = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        rate, seconds = float(trainer.optimizers[0].param_groups[0]["lr"]), time.perf_counter() - self._epoch_started
        self.history.append({"epoch": epoch, **metrics, "learning_rate": rate, "seconds": round(seconds, 4)})
        value = metrics[pl_module.monitor] if pl_module.mode == "min" else -metrics[pl_module.monitor]
        better = self.best_epoch < 0 or value < self.best_value
        if better:
            self.best_epoch, self.best_value = epoch, value
        # Before the checkpoint, where processes wait for each other: all of them read these files after the last epoch.
        # A run that is killed in between repeats some epochs and finds the same best again.
        if trainer.is_global_zero:
            write_json(self.folder / HISTORY_FILE, self.history)
        if trainer.is_global_zero and better:
            weights = {name: tensor.detach().cpu() for name, tensor in pl_module.network.state_dict().items()}
            with atomic_path(self.folder / BEST_FILE) as temporary:
                torch.save({"network": weights, "epoch": epoch}, temporary)
        done, total = epoch + 1, settings.epochs
        if done % settings.checkpoint_every == 0 or done == total or trainer.should_stop:
            self._save(trainer, metrics.get("val_loss", metrics["train_loss"]), epoch, settings.keep_checkpoints)
        if trainer.is_global_zero and self.description and (10 * done) // total > (10 * epoch) // total:
            monitor = pl_module.monitor
            logger.info("%s: epoch %d of %d, %s %.4f", self.description, done, total, monitor, metrics[monitor])

    def _save(self, trainer: Trainer, loss: float, epoch: int, keep: int) -> None:
        name = f"epoch={epoch:03d}-loss={loss:.4f}-time={datetime.now():%Y%m%dT%H%M%S}.ckpt"
        unfinished = self.folder / f".{name}.tmp"
        trainer.save_checkpoint(unfinished)  # every process takes part, one writes
        if trainer.is_global_zero:
            unfinished.replace(self.folder / name)
            _, *others = checkpoints(self.folder)
            for old in sorted(others, key=checkpoint_loss)[keep:]:
                old.unlink()


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run, the latest epoch first."""
    return sorted(folder.glob("epoch=*.ckpt"), key=_epoch, reverse=True)


def checkpoint_loss(path: Path) -> float:
    """The loss that a checkpoint's name carries; infinite when it isn't a number."""
    loss = float(path.stem.split("loss=")[1].split("-time=")[0])
    return math.inf if math.isnan(loss) else loss


def _epoch(path: Path) -> int:
    return int(path.stem.split("-")[0].removeprefix("epoch="))
