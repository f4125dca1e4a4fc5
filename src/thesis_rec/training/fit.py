"""The training service: one function that trains any module, resumes it exactly, and leaves its files behind."""

import hashlib
import logging
import math
import os
import random
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, StackDataset

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.base.files import readable, sha256_json, write_json
from thesis_rec.training.optimiser import cosine_with_warmup, parameter_groups
from thesis_rec.training.settings import FitSettings

logger = logging.getLogger(__name__)

#: What a run keeps in its folder beside checkpoints.
HISTORY_FILE = "history.json"

History = list[dict[str, Any]]

#: Named tensors with a common first dimension: all data of a run, or a batch of them.
Batch = dict[str, Tensor]


def fingerprint(columns: Batch) -> str:
    """Hash of all content; two runs on equal data have equal fingerprints."""
    digest = hashlib.sha256()
    for name in sorted(columns):
        column = columns[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(column.shape)}{column.dtype}".encode())
        digest.update(column.numpy().tobytes())
    return digest.hexdigest()


class EpochSampler(Sampler[int]):
    """A permutation that depends on seed and epoch alone, so that a resumed run sees what the first would have seen.

    With several processes each gets its slice of the same permutation, filled up to equal length.

    Args:
        length: Number of items.
        seed: Seed of the run.
        per_epoch: Items of one epoch, a random part of all; None for all.
    """

    def __init__(self, length: int, seed: int, per_epoch: int | None = None) -> None:
        self.length = length
        self.seed = seed
        self.per_epoch = min(per_epoch or length, length)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the training loop before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.per_epoch / _world()[1])

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.length, generator=generator)[: self.per_epoch]
        rank, world = _world()
        missing = len(self) * world - len(order)
        order = torch.cat([order, order[:missing]])
        return iter(order[rank::world].tolist())


def _world() -> tuple[int, int]:
    """Rank and number of training processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def loader(columns: Batch, batch_size: int, sampler: EpochSampler | None = None) -> DataLoader[Batch]:
    """Batches in the sampler's order, or in that of the data."""
    # A tensor is indexed as a dataset is.
    return DataLoader(StackDataset(**columns), batch_size=batch_size, sampler=sampler)  # type: ignore[arg-type]


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


class RunFiles(Checkpoint):
    """What makes a run exact and keeps its files: history after every epoch, checkpoints named by epoch, loss and time.

    Random numbers of an epoch depend on seed, epoch and process alone. A checkpoint is complete when it has its name,
    and holds all that a run is resumed with or ends with; the one with the highest epoch counts.

    Args:
        folder: Folder of the run.
        identity: What tells the run from others.
        seed: Seed of the run.
        description: What is trained, for a log line at every tenth of the run; None where a progress bar shows it.
    """

    def __init__(self, folder: Path, identity: str, seed: int, description: str | None = None) -> None:
        self.folder, self.seed, self.description = folder, seed, description
        self.state: dict[str, Any] = {"identity": identity, "history": [], "best_epoch": -1, "best_value": math.inf}
        self._epoch_started = 0.0

    def state_dict(self) -> dict[str, Any]:
        """History and best weights travel in each checkpoint."""
        return self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up where the checkpoint was written."""
        self.state = state_dict

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed the epoch; at its first batch, because Lightning doesn't announce the epoch that a run resumes with."""
        if batch_idx == 0:
            torch.manual_seed((self.seed * 1_000_003 + trainer.current_epoch) * 1_009 + trainer.global_rank)
            self._epoch_started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Note the epoch's metrics; save what is due."""
        epoch, settings, state = trainer.current_epoch, pl_module.settings, self.state
        metrics = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        rate, seconds = float(trainer.optimizers[0].param_groups[0]["lr"]), time.perf_counter() - self._epoch_started
        state["history"].append({"epoch": epoch, **metrics, "learning_rate": rate, "seconds": round(seconds, 4)})
        value = metrics[pl_module.monitor] if pl_module.mode == "min" else -metrics[pl_module.monitor]
        if state["best_epoch"] < 0 or value < state["best_value"]:
            weights = {name: tensor.detach().cpu().clone() for name, tensor in pl_module.network.state_dict().items()}
            state |= {"best_epoch": epoch, "best_value": value, "best": weights}
        if trainer.is_global_zero:
            write_json(self.folder / HISTORY_FILE, state["history"])
        done, total = epoch + 1, settings.epochs
        state["finished"] = done == total or trainer.should_stop
        if done % settings.checkpoint_every == 0 or state["finished"]:
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
        # All processes read the last one when the run ends.
        trainer.strategy.barrier()


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run, the latest epoch first."""
    return sorted(folder.glob("epoch=*.ckpt"), key=_epoch, reverse=True)


def checkpoint_loss(path: Path) -> float:
    """The loss that a checkpoint's name carries; infinite when it isn't a number."""
    loss = float(path.stem.split("loss=")[1].split("-time=")[0])
    return math.inf if math.isnan(loss) else loss


def _epoch(path: Path) -> int:
    return int(path.stem.split("-")[0].removeprefix("epoch="))


@dataclass(frozen=True)
class FitResult:
    """What a training run gives.

    Attributes:
        state: State dict of the network at its best epoch, on the CPU.
        history: One row per epoch: losses, learning rate, seconds.
        best_epoch: Epoch of ``state``, counted from 0.
    """

    state: dict[str, Tensor]
    history: History
    best_epoch: int


def fit(
    module: FitModule,
    train: Batch,
    validation: Batch | None,
    folder: Path,
    *,
    seed: int,
    description: str,
    per_epoch: int | None = None,
) -> FitResult:
    """Train a module and return its best state.

    A run that was killed goes on from its latest checkpoint, and ends with the losses that it would have had
    undisturbed, provided data, settings and seed are the same; otherwise, and after a run that had finished, it starts
    anew.

    Args:
        module: Network with its loss; its ``settings`` say how it is trained.
        train: Training data.
        validation: Validation data, or None to watch the training loss.
        folder: Where the run keeps its files: ``history.json`` after every epoch and the checkpoints.
        seed: Seed of the order of data and of everything random in training. The network's first weights are the
            caller's.
        description: What is trained, for progress.
        per_epoch: Items of one epoch, a random part of the training data; None for all.

    Returns:
        Best state and history.

    Raises:
        ConfigurationError: If the devices asked for don't exist.
    """
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    started = time.perf_counter()
    settings = module.settings
    if validation is None:
        # Without validation data there is nothing but the training loss to watch.
        module.monitor, module.mode = "train_loss", "min"
    identity, terminal = _identity(module, train, validation, seed, per_epoch), sys.stderr.isatty()
    resume_from = _prepare(folder, settings, identity)
    hooks: list[Any] = [RunFiles(folder, identity, seed, None if terminal else description)]
    if settings.patience:
        hooks.append(EarlyStopping(module.monitor, patience=settings.patience, mode=module.mode))
    with _quiet_lightning(), torch.random.fork_rng(devices=[]):
        try:
            trainer = Trainer(
                **settings.model_dump(include={"accelerator", "devices", "num_nodes", "precision"}),
                strategy=_strategy(settings),
                max_epochs=settings.epochs,
                gradient_clip_val=settings.gradient_clip or None,
                callbacks=hooks,
                plugins=_environment(settings),
                use_distributed_sampler=False,  # the sampler knows about processes itself
                num_sanity_val_steps=0,
                logger=False,
                enable_model_summary=False,
                enable_progress_bar=terminal,
                default_root_dir=folder,
            )
        except MisconfigurationException as error:
            raise ConfigurationError(f"{description}: {error}") from error
        trainer.fit(
            module,
            loader(train, settings.batch_size, EpochSampler(len(next(iter(train.values()))), seed, per_epoch)),
            # Every process validates on everything, so that all agree without communication.
            None if validation is None else loader(validation, settings.batch_size),
            ckpt_path=resume_from,
            weights_only=True,
        )
    # From the file, because with several processes the trained weights live in another one.
    run = _run_of(checkpoints(folder)[0])
    history, best_epoch = run["history"], run["best_epoch"]
    module.network.load_state_dict(run["best"])
    module.network.to("cpu").eval()
    logger.info(
        "%s: best epoch %d of %d, %s %.4f, %.1f s",
        description,
        best_epoch + 1,
        len(history),
        module.monitor,
        history[best_epoch][module.monitor],
        time.perf_counter() - started,
    )
    return FitResult(run["best"], history, best_epoch)


def _identity(module: FitModule, train: Batch, validation: Batch | None, seed: int, per_epoch: int | None) -> str:
    """Everything that the course of a run depends on, but the code."""
    settings = module.settings.model_dump(exclude={"resume", "checkpoint_every", "keep_checkpoints"})
    contents = [fingerprint(part) for part in (module.network.state_dict(), train, validation or {})]
    return sha256_json([settings, *contents, seed, per_epoch])


def _run_of(checkpoint: Path) -> dict[str, Any]:
    """What :class:`RunFiles` kept in a checkpoint."""
    state: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)["callbacks"]["RunFiles"]
    return state


def _prepare(folder: Path, settings: FitSettings, identity: str) -> Path | None:
    """The checkpoint to resume from; None after clearing what another run left."""
    folder.mkdir(parents=True, exist_ok=True)
    found = checkpoints(folder)
    # What a machine was writing when it went down may be cut off.
    runs = ((path, readable(partial(_run_of, path))) for path in found if settings.resume)
    latest, run = next(((path, run) for path, run in runs if run), (None, {}))
    if latest and run.get("identity") == identity and not run["finished"]:
        logger.info("resuming from %s", latest.name)
        return latest
    if _leads(settings):
        for old in [*found, *folder.glob(".*.tmp"), folder / HISTORY_FILE]:
            old.unlink(missing_ok=True)
    return None


def _strategy(settings: FitSettings) -> str:
    """Lightning's default launches the whole command once per device; processes of this one are what is meant here."""
    if settings.devices in (1, "1", "auto") and settings.num_nodes == 1:
        return "auto"
    return "ddp" if _slurm_launched(settings) else "ddp_spawn"


def _slurm_launched(settings: FitSettings) -> bool:
    """Whether ``srun`` started one process per device."""
    wanted = str(settings.devices)
    tasks = int(os.environ.get("SLURM_NTASKS", "1"))
    return "SLURM_PROCID" in os.environ and wanted.isdigit() and tasks > 1 and tasks == int(wanted) * settings.num_nodes


def _leads(settings: FitSettings) -> bool:
    """Whether this process keeps the run's files; the others of one run come to the same decisions by reading them."""
    return not _slurm_launched(settings) or os.environ["SLURM_PROCID"] == "0"


def _environment(settings: FitSettings) -> list[Any]:
    from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment

    if _slurm_launched(settings):
        # Its own requeueing would save in the middle of an epoch, from where no run resumes exactly.
        return [SLURMEnvironment(auto_requeue=False)]
    # Named, because inside an allocation Lightning would otherwise demand one task per device.
    environment = LightningEnvironment()
    if settings.num_nodes == 1:
        environment._main_port = _meeting_port()
    return [environment]


def _meeting_port() -> int:
    """A free port at which processes of this machine meet, from below those that systems lend to connections.

    Lightning takes one of the latter, and the same for every later training of its process: any other program may have
    got it by the time the processes start, many seconds later on a busy machine.
    """
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("", port))
            return port
    raise ConfigurationError("There is no free port for the processes of a training: all of 100 are taken.")


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Lightning's remarks on hardware and loaders aren't the user's business here; other trainings keep theirs."""
    levels = {name: logging.getLogger(name).level for name in ("lightning", "lightning.pytorch", "lightning.fabric")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(lightning|torch)\..*")
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
