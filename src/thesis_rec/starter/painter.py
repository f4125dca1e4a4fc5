"""Drawing the images of tasks ahead of their use."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thesis_rec.base.tables import TaskImages


class Painter:
    """Draws tasks' images ahead of their use, in a pool of processes.

    Args:
        workers: Processes; 1 draws in this one.
    """

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._pending: dict[tuple[Any, ...], Future[Any]] = {}

    def __enter__(self) -> Painter:
        if self.workers > 1:
            from multiprocessing import get_context

            # CUDA and forks don't go together; one thread each, as there is a process per core.
            os.environ.setdefault("OMP_NUM_THREADS", "1")
            self._pool = ProcessPoolExecutor(self.workers, mp_context=get_context("spawn"))
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
        self._pending = {}

    def expect(self, split: str, tasks: Iterable[str], n_per_class: int) -> None:
        """Begin drawing in the background, in this order."""
        from thesis_rec.tasks import generate_split

        if self._pool is None:
            return
        for task in tasks:
            key = (task, split, n_per_class)
            if key not in self._pending:
                self._pending[key] = self._pool.submit(generate_split, *key)

    def split(self, task: str, split: str, n_per_class: int) -> tuple[Any, Any]:
        """Images and labels of a task's split."""
        from thesis_rec.tasks import generate_split

        key = (task, split, n_per_class)
        future = self._pending.pop(key, None)
        return future.result() if future is not None else generate_split(*key)

    def pretraining(self, tasks: Iterable[str], n_per_class: int) -> dict[str, Any]:
        """Pre-training images of tasks, as ``thesis_rec.starter.pretraining.Bank.of`` takes them."""
        from thesis_rec.tasks import BASE_TASKS

        names = list(dict.fromkeys(tasks))
        self.expect("pretrain", names, n_per_class)
        return {
            task: (*self.split(task, "pretrain", n_per_class), list(BASE_TASKS[task].class_names)) for task in names
        }

    def measured(self, tasks: Iterable[str], n_train: int, n_test: int) -> dict[str, TaskImages]:
        """Images of tasks to measure on."""
        from thesis_rec.base.tables import TaskImages
        from thesis_rec.tasks import BASE_TASKS

        names = list(dict.fromkeys(tasks))
        for task in names:
            self.expect("train", [task], n_train)
            self.expect("test", [task], n_test)
        return {
            task: TaskImages(
                task,
                *self.split(task, "train", n_train),
                *self.split(task, "test", n_test),
                class_names=list(BASE_TASKS[task].class_names),
            )
            for task in names
        }
