"""The training service: one function that trains any module, resumes it exactly, and leaves its files behind."""

from __future__ import annotations

import json
import logging
import os
import random
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.base.files import sha256_json, write_json
from thesis_rec.training import callbacks
from thesis_rec.training.callbacks import History
from thesis_rec.training.data import Batch, EpochSampler, fingerprint, loader
from thesis_rec.training.module import FitModule
from thesis_rec.training.settings import FitSettings

logger = logging.getLogger(__name__)

RUN_FILE = "run.json"


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
    from lightning.pytorch import Trainer

    started = time.perf_counter()
    settings = module.settings
    if validation is None:
        # Without validation data there is nothing but the training loss to watch.
        module.monitor, module.mode = "train_loss", "min"
    resume_from = _prepare(folder, settings, _identity(module, train, validation, seed, per_epoch))
    terminal = sys.stderr.isatty()
    hooks: list[Any] = [callbacks.ReseedEveryEpoch(seed), callbacks.RunFiles(folder, None if terminal else description)]
    if settings.patience:
        hooks.append(callbacks.ExactEarlyStopping(module.monitor, patience=settings.patience, mode=module.mode))
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
    # From the files, because with several processes the trained weights live in another one.
    history: History = json.loads((folder / callbacks.HISTORY_FILE).read_text(encoding="utf-8"))
    best = torch.load(folder / callbacks.BEST_FILE, map_location="cpu", weights_only=True)
    module.network.load_state_dict(best["network"])
    module.network.to("cpu").eval()
    if _leads(settings):
        write_json(folder / RUN_FILE, {**json.loads((folder / RUN_FILE).read_text()), "finished": True})
    logger.info(
        "%s: best epoch %d of %d, %s %.4f, %.1f s",
        description,
        best["epoch"] + 1,
        len(history),
        module.monitor,
        next(row[module.monitor] for row in history if row["epoch"] == best["epoch"]),
        time.perf_counter() - started,
    )
    return FitResult(best["network"], history, int(best["epoch"]))


def _identity(module: FitModule, train: Batch, validation: Batch | None, seed: int, per_epoch: int | None) -> str:
    """Everything that the course of a run depends on, but the code."""
    keep = {"resume", "checkpoint_every", "keep_checkpoints"}
    return sha256_json(
        {
            "settings": module.settings.model_dump(exclude=keep),
            "initial": fingerprint(module.network.state_dict()),
            "train": fingerprint(train),
            "validation": None if validation is None else fingerprint(validation),
            "seed": seed,
            "per_epoch": per_epoch,
        }
    )


def _prepare(folder: Path, settings: FitSettings, fingerprint: str) -> Path | None:
    """The checkpoint to resume from; None after clearing what another run left."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RUN_FILE
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    same = before.get("fingerprint") == fingerprint and not before.get("finished")
    found = callbacks.checkpoints(folder)
    if settings.resume and same and found:
        logger.info("resuming from %s", found[0].name)
        return found[0]
    if not _leads(settings):
        return None
    for old in [*found, *folder.glob(".*.tmp"), folder / callbacks.BEST_FILE, folder / callbacks.HISTORY_FILE]:
        old.unlink(missing_ok=True)
    write_json(path, {"fingerprint": fingerprint, "finished": False})
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
    """Lightning's remarks on hardware and loaders aren't the user's business here."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for module in ("lightning", "torch"):
            warnings.filterwarnings("ignore", module=rf"{module}\..*")
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
