"""Building the embedded zoo stage by stage, resumable item by item.

Everything is written to a working folder, one atomic file or folder per item, under names that say with which settings
it was made; an item that is there is not made again. A deadline ends a stage between items, and the working folder can
travel as a bundle of archives, so that slices of minutes on a GPU continue each other. :func:`assemble` makes the
zoo's own folder of it.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from thesis_rec.errors import Failure, ItemError
from thesis_rec.files import atomic_path, encode_id, sha256_file, sha256_json, write_json
from thesis_rec.progress import track
from thesis_rec.starter.provenance import PROVENANCE_FILE, environment, hash_tree
from thesis_rec.starter.recipes import BUDGETS, IMAGES_PER_CLASS, ModelRecipe, default_sources, model_recipes

if TYPE_CHECKING:
    from thesis_rec.starter.clip import ClipSettings
    from thesis_rec.truth.cells import TruthSettings
    from thesis_rec.truth.fine_tune import FineTuneSettings
    from thesis_rec.truth.store import MeasuredTask, TaskImages
    from thesis_rec.zoo.manifest import ManifestRow

logger = logging.getLogger(__name__)

LICENCE = "MIT"
#: Largest archive of a bundle in bytes.
PIECE = 15 << 20


@dataclass(frozen=True)
class Sizes:
    """How much of the zoo is built; the defaults are the whole of it.

    Attributes:
        models: Number of models, spread over the families; None for all.
        tasks: Number of base tasks to measure, spread over the families; None for all.
        references: Number of reference tasks; None for all.
        subtasks: Number of sub-tasks.
        budget_factor: Multiplies the training budgets.
        max_steps: Cap of all training budgets; None for none.
        images_per_class: Pre-training images of each class.
        train_per_class: Images of each class from which probes are drawn.
        test_per_class: Images of each class on which they are tested.
        fine_tuned_models: Models that are fine-tuned.
        fine_tuned_tasks: Base tasks on which they are.
        repeated_tasks: How many of those are repeated with further seeds.
        repeats: Seeds of a repeated task.
    """

    models: int | None = None
    tasks: int | None = None
    references: int | None = None
    subtasks: int = 2200
    budget_factor: float = 1.0
    max_steps: int | None = None
    images_per_class: int = IMAGES_PER_CLASS
    train_per_class: int = 48
    test_per_class: int = 60
    fine_tuned_models: int = 48
    fine_tuned_tasks: int = 60
    repeated_tasks: int = 6
    repeats: int = 3


@dataclass(frozen=True)
class ZooPlan:
    """What is to be built, fixed before anything is.

    Attributes:
        seed: Of all choices.
        sizes: How much of it.
        recipes: Models to train.
        base_tasks: Base tasks to measure, reference tasks not among them.
        reference_tasks: Tasks whose images models' responses are measured on.
        subtasks: Classes of base tasks to measure as further tasks.
        clip_tasks: Tasks that the image encoder is trained on; all of known families.
    """

    seed: int
    sizes: Sizes
    recipes: tuple[ModelRecipe, ...]
    base_tasks: tuple[str, ...]
    reference_tasks: tuple[str, ...]
    subtasks: tuple[MeasuredTask, ...]
    clip_tasks: tuple[str, ...]

    def measured(self) -> list[MeasuredTask]:
        """Base tasks with all their classes, then sub-tasks."""
        from thesis_rec.starter.tasks import BASE_TASKS
        from thesis_rec.truth.store import MeasuredTask

        base = [
            MeasuredTask(task, tuple((task, i) for i in range(len(BASE_TASKS[task].class_names))))
            for task in self.base_tasks
        ]
        return [*base, *self.subtasks]

    def fine_tuned(self) -> tuple[list[str], list[tuple[str, int]]]:
        """Models to fine-tune, and cells of base task and seed; both spread over families."""
        families: dict[str, list[ModelRecipe]] = {}
        for recipe in self.recipes:
            families.setdefault(recipe.family, []).append(recipe)
        rng = np.random.default_rng([self.seed, 3])
        queues = []
        for recipes in families.values():
            # One size per family, so that one set of captured steps serves all of its models.
            small = [r for r in recipes if r.architecture.endswith("_a")] or recipes
            queues.append([small[i].model_id for i in rng.permutation(len(small))])
        models = _take_turns(queues, self.sizes.fine_tuned_models)
        order = {recipe.model_id: recipe.architecture for recipe in self.recipes}
        models.sort(key=lambda model: (order[model], model))
        tasks = _spread(self.base_tasks, self.sizes.fine_tuned_tasks, self.seed)
        cells = [(task, 0) for task in tasks]
        for task in tasks[: self.sizes.repeated_tasks]:
            cells += [(task, seed) for seed in range(1, self.sizes.repeats)]
        return models, cells


def make_plan(seed: int = 0, sizes: Sizes | None = None) -> ZooPlan:
    """Decide what is built.

    Args:
        seed: Of all choices.
        sizes: How much; everything unless given.
    """
    from thesis_rec.starter import sides
    from thesis_rec.starter.subtasks import sample_subtasks

    sizes = sizes or Sizes()
    families, unknown = default_sources()
    references = [str(task) for task in sides.REFERENCE_TASKS][: sizes.references]
    base = _spread([str(task) for task in sides.evaluation_tasks()], sizes.tasks, seed)
    if sizes.tasks is not None:
        # A small zoo draws its sources from the tasks that it measures, so that few images are needed.
        chosen = {family: [task for task in tasks if task in base] for family, tasks in families.items()}
        families = {family: tasks for family, tasks in chosen.items() if tasks} or dict(list(families.items())[:1])
    short, middle, long = (max(1, round(sizes.budget_factor * steps)) for steps in BUDGETS)
    recipes = model_recipes(families, unknown, seed, (short, middle, long))
    if sizes.models is not None:
        groups: dict[str, list[ModelRecipe]] = {}
        for recipe in recipes:
            groups.setdefault(recipe.family, []).append(recipe)
        # Not always the same sources: the n-th family begins with its n-th recipe.
        queues = [recipes_[i % 22 :] + recipes_[: i % 22] for i, recipes_ in enumerate(groups.values(), start=3)]
        recipes = _take_turns(queues, sizes.models)
    recipes = [
        replace(
            recipe,
            steps=recipe.steps if sizes.max_steps is None else min(recipe.steps, sizes.max_steps),
            images_per_class=sizes.images_per_class,
        )
        for recipe in recipes
    ]
    allowed = set(base)
    subtasks = sample_subtasks(seed, sizes.subtasks) if sizes.subtasks else []
    if sizes.tasks is not None:
        subtasks = [task for task in subtasks if {parent for parent, _ in task.members} <= allowed]
    known = set(sides.known_tasks())
    small = sizes.tasks is not None
    clip_tasks = [task for task in (base if small else sides.evaluation_tasks()) if task in known]
    return ZooPlan(
        seed=seed,
        sizes=sizes,
        recipes=tuple(recipes),
        base_tasks=tuple(base),
        reference_tasks=tuple(references),
        subtasks=tuple(subtasks),
        clip_tasks=(*clip_tasks, *references),
    )


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
        from thesis_rec.starter.tasks import generate_split

        if self._pool is None:
            return
        for task in tasks:
            key = (task, split, n_per_class)
            if key not in self._pending:
                self._pending[key] = self._pool.submit(generate_split, *key)

    def split(self, task: str, split: str, n_per_class: int) -> tuple[Any, Any]:
        """Images and labels of a task's split."""
        from thesis_rec.starter.tasks import generate_split

        key = (task, split, n_per_class)
        future = self._pending.pop(key, None)
        found: tuple[Any, Any] = future.result() if future is not None else generate_split(*key)
        return found

    def pretraining(self, tasks: Iterable[str], n_per_class: int) -> dict[str, Any]:
        """Pre-training images of tasks, as ``thesis_rec.starter.pretraining.Bank.of`` takes them."""
        from thesis_rec.starter.tasks import BASE_TASKS

        names = list(dict.fromkeys(tasks))
        self.expect("pretrain", names, n_per_class)
        return {
            task: (*self.split(task, "pretrain", n_per_class), list(BASE_TASKS[task].class_names)) for task in names
        }

    def measured(self, tasks: Iterable[str], n_train: int, n_test: int) -> dict[str, TaskImages]:
        """Images of tasks to measure on."""
        from thesis_rec.starter.tasks import BASE_TASKS
        from thesis_rec.truth.store import TaskImages

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


@dataclass
class BuildSettings:
    """Everything that a build depends on besides the machine.

    Attributes:
        seed: Of all choices.
        sizes: How much is built.
        clip: Size and training of the image encoder; None for the usual one.
        truth: Linear probes, scores and responses; None for the usual ones.
        fine_tune: Recipe of fine-tuning; None for the usual one.
        precisions: Precisions in which models are profiled; those a device can't do are skipped.
        batch_sizes: Batch sizes in which models are profiled.
        seconds_per_profile: Time for one model, precision and batch size.
    """

    seed: int = 0
    sizes: Sizes = field(default_factory=Sizes)
    clip: ClipSettings | None = None
    truth: TruthSettings | None = None
    fine_tune: FineTuneSettings | None = None
    precisions: tuple[str, ...] = ("fp32", "fp16")
    batch_sizes: tuple[int, ...] = (1, 32, 256)
    seconds_per_profile: float = 0.05

    def __post_init__(self) -> None:
        from thesis_rec.starter.clip import ClipSettings
        from thesis_rec.truth.cells import TruthSettings
        from thesis_rec.truth.fine_tune import FineTuneSettings

        self.clip = self.clip or ClipSettings(seed=self.seed)
        self.truth = self.truth or TruthSettings(source="starter", seed=self.seed)
        self.fine_tune = self.fine_tune or FineTuneSettings(source="starter")


#: Stages in the order in which they are built.
STAGES = ("models", "encoder", "truth", "fine_tune", "hardware")


def run_stage(stage: str, plan: ZooPlan, shop: Workshop, settings: BuildSettings) -> list[Failure]:
    """Build what is missing of one stage, until the workshop's deadline.

    Args:
        stage: One of :data:`STAGES`.
        plan: What is built.
        shop: Where.
        settings: How.

    Returns:
        Items that failed.

    Raises:
        ValueError: If there is no such stage.
    """
    assert settings.clip is not None
    assert settings.truth is not None
    assert settings.fine_tune is not None
    begun = time.perf_counter()
    match stage:
        case "models":
            failures = train_models(plan, shop)
        case "encoder":
            try:
                train_encoder(plan, shop, settings.clip)
                failures = []
            except ItemError as error:
                failures = [Failure.of("clip", error)]
        case "truth":
            failures = measure_models(plan, shop, settings.truth)
        case "fine_tune":
            failures = fine_tune_models(plan, shop, settings.fine_tune)
        case "hardware":
            failures = profile_models(
                plan, shop, settings.precisions, settings.batch_sizes, settings.seconds_per_profile
            )
        case _:
            raise ValueError(f"unknown stage {stage!r}; there are {', '.join(STAGES)}")
    logger.info("stage %s: %.1f s, %d failures", stage, time.perf_counter() - begun, len(failures))
    return failures


def expect_images(stages: Sequence[str], plan: ZooPlan, shop: Workshop, settings: BuildSettings) -> None:
    """Begin drawing, in the background, all images that the stages will need, in the order of their use."""
    assert settings.clip is not None
    sizes = plan.sizes
    if "models" in stages:
        there = set(shop.trained(plan))
        sources = [recipe.source for recipe in plan.recipes if recipe.model_id not in there]
        tasks = dict.fromkeys(task for source in sources for task in source.tasks)
        shop.painter.expect("pretrain", tasks, sizes.images_per_class)
    if "encoder" in stages and not (shop.folder / "clip").is_dir():
        shop.painter.expect("pretrain", plan.clip_tasks, settings.clip.images_per_class)
    if {"truth", "fine_tune"} & set(stages):
        for task in (*plan.base_tasks, *plan.reference_tasks):
            shop.painter.expect("train", [task], sizes.train_per_class)
            shop.painter.expect("test", [task], sizes.test_per_class)


@dataclass
class Workshop:
    """The working folder and what all stages share.

    Attributes:
        folder: Where items are kept.
        device: ``cpu`` or ``cuda``.
        painter: Draws images.
        deadline: ``time.monotonic()`` after which no further item is begun; None for never.
        slots: Models that train at once on a GPU.
        images: Images of measured tasks, kept between stages.
    """

    folder: Path
    device: str = "cpu"
    painter: Painter = field(default_factory=Painter)
    deadline: float | None = None
    slots: int = 12
    images: dict[str, TaskImages] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from thesis_rec.training.concurrent import prepare_device

        # Before anything else touches the GPU.
        prepare_device(self.device)

    def late(self) -> bool:
        """Whether no further item may be begun."""
        return self.deadline is not None and time.monotonic() > self.deadline

    def model_folder(self, model_id: str) -> Path:
        """Where a model's checkpoint is."""
        return self.folder / "models" / encode_id(model_id)

    def card(self, model_id: str) -> dict[str, Any] | None:
        """What is recorded about a trained model; None when it isn't there."""
        return _read(self.folder / "training" / f"{encode_id(model_id)}.json")

    def trained(self, plan: ZooPlan) -> list[str]:
        """Models of the plan that are there, made by the present recipe."""
        found = []
        for recipe in plan.recipes:
            card = self.card(recipe.model_id)
            if (
                card
                and card["recipe_hash"] == sha256_json(recipe.as_dict())
                and self.model_folder(recipe.model_id).is_dir()
            ):
                found.append(recipe.model_id)
        return found


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return content


@contextmanager
def _fresh_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that replaces ``target`` when the block succeeds."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:60]}."))
    try:
        yield temporary
        shutil.rmtree(target, ignore_errors=True)
        temporary.chmod(0o755)
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def train_models(plan: ZooPlan, shop: Workshop) -> list[Failure]:
    """Train and save the models that are missing.

    Args:
        plan: What is built.
        shop: Where.

    Returns:
        Models whose training diverged or failed.
    """
    from thesis_rec.starter.architectures import ARCHITECTURES, parameter_count, save
    from thesis_rec.starter.pretraining import Bank, head_names, train_recipes
    from thesis_rec.starter.provenance import empty_bank

    there = set(shop.trained(plan))
    missing = [recipe for recipe in plan.recipes if recipe.model_id not in there]
    if not missing or shop.late():
        return []
    begun = time.perf_counter()
    data = shop.painter.pretraining(
        (task for recipe in missing for task in recipe.source.tasks), plan.sizes.images_per_class
    )
    bank = Bank.of(data, shop.device) if data else empty_bank()
    logger.info("%d pre-training images after %.1f s", len(bank.images), time.perf_counter() - begun)
    failures: list[Failure] = []
    begun = time.perf_counter()
    results = train_recipes(missing, bank, shop.device, shop.slots, shop.deadline)
    for recipe, module, outcome in track(results, "training models", len(missing)):
        loss = None if outcome is None else outcome.loss
        finite = all(bool(p.isfinite().all()) for p in module.parameters()) and (loss is None or np.isfinite(loss))
        if not finite:
            failures.append(
                Failure(recipe.model_id, "Training diverged.", "Lower the learning rate or change the seed.")
            )
            continue
        names = head_names(recipe.source, bank.class_names)
        architecture = ARCHITECTURES[recipe.architecture]
        with _fresh_folder(shop.model_folder(recipe.model_id)) as folder:
            save(module, architecture, names, folder, {"source": recipe.source.name, "steps": recipe.steps})
        card = {
            "recipe": recipe.as_dict(),
            "recipe_hash": sha256_json(recipe.as_dict()),
            "class_names": names,
            "n_parameters": parameter_count(module),
            "loss": None if loss is None else round(loss, 4),
            "seconds": 0.0 if outcome is None else round(outcome.seconds, 3),
            "captured": outcome is not None and outcome.captured,
            "weights_sha256": _weights_hash(shop.model_folder(recipe.model_id)),
        }
        write_json(shop.folder / "training" / f"{encode_id(recipe.model_id)}.json", card)
    logger.info("models: %d asked for, %.1f s", len(missing), time.perf_counter() - begun)
    return failures


def _weights_hash(folder: Path) -> str:
    return sha256_file(next(iter(sorted(folder.glob("*.safetensors")))))


def train_encoder(plan: ZooPlan, shop: Workshop, settings: ClipSettings) -> dict[str, Any]:
    """Train the image encoder unless it is there, and measure it.

    Returns:
        What is recorded about it; empty when time was up.
    """
    from thesis_rec.starter.clip import captions_of, class_mean_accuracy, save_clip, train_clip
    from thesis_rec.starter.pretraining import Bank

    wanted = sha256_json({"settings": asdict(settings), "tasks": plan.clip_tasks})
    path = shop.folder / "clip.json"
    card = _read(path)
    if card and card["hash"] == wanted and (shop.folder / "clip").is_dir():
        return card
    if shop.late():
        return {}
    begun = time.perf_counter()
    bank = Bank.of(shop.painter.pretraining(plan.clip_tasks, settings.images_per_class), shop.device)
    logger.info("%d images for the encoder after %.1f s", len(bank.images), time.perf_counter() - begun)
    captions = captions_of(plan.clip_tasks)
    begun = time.perf_counter()
    model, loss = train_clip(bank, captions, settings, shop.device)
    seconds = time.perf_counter() - begun
    if not np.isfinite(loss):
        raise ItemError("clip", "Training the encoder diverged.", "Lower its learning rate.")
    accuracies = {}
    for task in _spread(plan.base_tasks, 24, plan.seed):
        images = _images(plan, shop, [task])[task]
        accuracies[task] = round(class_mean_accuracy(model, images, shop.device), 4)
    model.cpu()
    with _fresh_folder(shop.folder / "clip") as folder:
        save_clip(model, captions, settings, folder, {"tasks": len(plan.clip_tasks)})
    card = {
        "hash": wanted,
        "settings": asdict(settings),
        "tasks": list(plan.clip_tasks),
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "loss": round(loss, 4),
        "seconds": round(seconds, 2),
        "nearest_class_mean_accuracy": accuracies,
    }
    write_json(path, card)
    logger.info(
        "encoder: loss %.3f after %.1f s, nearest class mean %.3f on average",
        loss, seconds, float(np.mean(list(accuracies.values()))),
    )  # fmt: skip
    return card


def manifest_row(model_id: str, library: str, family: str, pretraining: str) -> ManifestRow:
    """A model's row in the manifest; its source is relative to the zoo's folder."""
    from thesis_rec.zoo.manifest import ManifestRow

    return ManifestRow(
        model_id=model_id,
        loader=library,
        source=f"models/{encode_id(model_id)}",
        revision="",
        family=family,
        pretraining=pretraining,
        licence=LICENCE,
        extractor=library if library != "transformers" else "huggingface",
    )


def _row(recipe: ModelRecipe) -> ManifestRow:
    from thesis_rec.starter.architectures import ARCHITECTURES

    library = ARCHITECTURES[recipe.architecture].library
    return manifest_row(recipe.model_id, library, recipe.family, recipe.source.name)


def measured_images(plan: ZooPlan, shop: Workshop) -> dict[str, TaskImages]:
    """Images of all tasks that are measured, reference tasks included."""
    return _images(plan, shop, [*plan.base_tasks, *plan.reference_tasks])


def _images(plan: ZooPlan, shop: Workshop, names: Sequence[str]) -> dict[str, TaskImages]:
    missing = [name for name in names if name not in shop.images]
    shop.images.update(shop.painter.measured(missing, plan.sizes.train_per_class, plan.sizes.test_per_class))
    return {name: shop.images[name] for name in names}


def measure_models(plan: ZooPlan, shop: Workshop, settings: TruthSettings) -> list[Failure]:
    """Linear probes, transferability scores and responses of the trained models that lack them.

    Args:
        plan: What is built.
        shop: Where.
        settings: What is measured.

    Returns:
        Models that could not be measured.
    """
    from thesis_rec.truth.cells import ImageBank, measure_model
    from thesis_rec.zoo.backbone import load_backbone

    folder = shop.folder / f"truth-{truth_hash(plan, settings)}"
    missing = _missing(plan, shop, folder)
    if not missing or shop.late():
        return []
    bank = ImageBank(measured_images(plan, shop), shop.device)
    tasks, reference = plan.measured(), list(plan.reference_tasks)
    failures: list[Failure] = []
    for recipe in track(missing, "measuring models"):
        if shop.late():
            break
        name = encode_id(recipe.model_id)
        try:
            backbone = load_backbone(_row(recipe), shop.folder, shop.device)
            truth = measure_model(backbone, bank, tasks, reference, settings, shop.device)
        except Exception as error:
            failures.append(Failure.of(recipe.model_id, error, "Train the model again."))
            continue
        _write_parquet(truth.records, folder / f"{name}.records.parquet")
        _write_parquet(truth.transferability, folder / f"{name}.scores.parquet")
        with atomic_path(folder / f"{name}.responses.npz") as path, path.open("wb") as file:
            np.savez_compressed(file, responses=truth.responses)
        _finish(shop, folder, recipe.model_id, truth.seconds)
    return failures


def fine_tune_models(plan: ZooPlan, shop: Workshop, settings: FineTuneSettings) -> list[Failure]:
    """Fine-tune the chosen models on the chosen tasks, where that is missing.

    Returns:
        Models that could not be fine-tuned.
    """
    from thesis_rec.truth.fine_tune import FineTuner
    from thesis_rec.zoo.backbone import load_backbone

    names, cells = plan.fine_tuned()
    folder = shop.folder / f"fine_tune-{fine_tune_hash(plan, settings)}"
    missing = [recipe for recipe in _missing(plan, shop, folder) if recipe.model_id in set(names)]
    missing.sort(key=lambda recipe: names.index(recipe.model_id))
    if not missing or not cells or shop.late():
        return []
    tasks = {task.dataset_id: task for task in plan.measured()}
    used = list(dict.fromkeys(task for task, _ in cells))
    tuner = FineTuner([tasks[name] for name in used], _images(plan, shop, used), settings, shop.device)
    failures: list[Failure] = []
    for recipe in track(missing, "fine-tuning models"):
        if shop.late():
            break
        begun = time.perf_counter()
        try:
            records = tuner.measure(
                lambda recipe=recipe: load_backbone(_row(recipe), shop.folder, "cpu"),  # type: ignore[misc]
                recipe.model_id,
                [(tasks[task], seed) for task, seed in cells],
            )
        except Exception as error:
            logger.exception("%s can't be fine-tuned", recipe.model_id)
            failures.append(Failure.of(recipe.model_id, error, "Train the model again."))
            continue
        _write_parquet(records, folder / f"{encode_id(recipe.model_id)}.records.parquet")
        _finish(shop, folder, recipe.model_id, {"total": time.perf_counter() - begun})
    return failures


def profile_models(
    plan: ZooPlan, shop: Workshop, precisions: Sequence[str], batch_sizes: Sequence[int], seconds_per_cell: float = 0.15
) -> list[Failure]:
    """Latency, throughput and memory of every trained model on this device, where they are missing.

    Returns:
        Models that could not be profiled.
    """
    from thesis_rec.hardware.profiling import ProfileSettings, device_fingerprint, profile_backbone
    from thesis_rec.zoo.backbone import load_backbone

    settings = ProfileSettings(max_seconds=seconds_per_cell)
    wanted = {"settings": asdict(settings), "precisions": list(precisions), "batch_sizes": list(batch_sizes)}
    device = device_fingerprint(shop.device).device_id
    folder = shop.folder / f"hardware-{encode_id(device)}-{sha256_json(wanted)[:8]}"
    failures: list[Failure] = []
    for recipe in track(_missing(plan, shop, folder), "profiling models"):
        if shop.late():
            break
        begun = time.perf_counter()
        try:
            backbone = load_backbone(_row(recipe), shop.folder, shop.device)
            profile = profile_backbone(
                backbone, recipe.model_id, shop.device, precisions, batch_sizes, settings=settings
            )
        except Exception as error:
            failures.append(Failure.of(recipe.model_id, error, "Choose other precisions or batch sizes."))
            continue
        _write_parquet(profile, folder / f"{encode_id(recipe.model_id)}.profile.parquet")
        _finish(shop, folder, recipe.model_id, {"total": time.perf_counter() - begun})
    return failures


def truth_hash(plan: ZooPlan, settings: TruthSettings) -> str:
    """Names the folder of measurements made with these tasks and settings."""
    tasks = [[task.dataset_id, task.members] for task in plan.measured()]
    sizes = [plan.sizes.train_per_class, plan.sizes.test_per_class]
    return sha256_json([tasks, plan.reference_tasks, asdict(settings), sizes])[:8]


def fine_tune_hash(plan: ZooPlan, settings: FineTuneSettings) -> str:
    """Names the folder of fine-tuning results made with these cells and settings."""
    _, cells = plan.fine_tuned()
    return sha256_json([cells, asdict(settings), plan.sizes.train_per_class, plan.sizes.test_per_class])[:8]


def _missing(plan: ZooPlan, shop: Workshop, folder: Path) -> list[ModelRecipe]:
    """Trained models without a finished item in ``folder`` that belongs to their present weights."""
    there = set(shop.trained(plan))
    found = []
    for recipe in plan.recipes:
        if recipe.model_id in there:
            done = _read(folder / f"{encode_id(recipe.model_id)}.json")
            card = shop.card(recipe.model_id)
            if done is None or card is None or done["weights_sha256"] != card["weights_sha256"]:
                found.append(recipe)
    return found


def _finish(shop: Workshop, folder: Path, model_id: str, seconds: dict[str, float]) -> None:
    """Mark an item as done; written last, so that half an item never counts."""
    card = shop.card(model_id)
    assert card is not None
    rounded = {key: round(float(value), 4) for key, value in seconds.items()}
    write_json(folder / f"{encode_id(model_id)}.json", {"weights_sha256": card["weights_sha256"], "seconds": rounded})


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    with atomic_path(path) as temporary:
        table.to_parquet(temporary, index=False, compression="zstd")


def export_bundle(folder: Path, target: Path, piece: int = PIECE) -> list[Path]:
    """Pack a working folder into archives that are small enough to travel.

    Args:
        folder: Working folder.
        target: Where the archives ``bundle_00.zip`` ... are written.
        piece: Largest archive in bytes.

    Returns:
        The archives. Each is whole by itself; unpacking some gives some of the items.
    """
    target.mkdir(parents=True, exist_ok=True)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    groups: list[list[Path]] = [[]]
    size = 0
    for path in files:
        # Entries can grow by their headers, never by compression's failure to help.
        cost = path.stat().st_size + 2 * len(str(path)) + 200
        if groups[-1] and size + cost > piece:
            groups.append([])
            size = 0
        groups[-1].append(path)
        size += cost
    pieces = []
    for number, group in enumerate(groups):
        piece_path = target / f"bundle_{number:02d}.zip"
        with atomic_path(piece_path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in group:
                archive.write(path, path.relative_to(folder).as_posix())
        pieces.append(piece_path)
    return pieces


def import_bundle(archives: Iterable[Path], folder: Path) -> int:
    """Unpack archives of :func:`export_bundle` into a working folder.

    Returns:
        Number of files.

    Raises:
        ItemError: If an archive is damaged or names a path outside the folder.
    """
    count = 0
    for path in archives:
        try:
            with zipfile.ZipFile(path) as archive:
                for entry in archive.infolist():
                    target = folder / entry.filename
                    if not target.resolve().is_relative_to(folder.resolve()):
                        raise ItemError(
                            str(path), f"The entry {entry.filename!r} leads out of the folder.", "Don't use it."
                        )
                    with atomic_path(target) as temporary:
                        temporary.write_bytes(archive.read(entry))
                    count += 1
        except zipfile.BadZipFile as error:
            raise ItemError(str(path), "The archive is damaged.", "Copy it again.") from error
    return count


def assemble(plan: ZooPlan, shop: Workshop, settings: BuildSettings, output: Path) -> dict[str, Any]:
    """Make the zoo's own folder from the working folder.

    Args:
        plan: What was built.
        shop: Where it was built.
        settings: How it was built.
        output: The zoo's folder; files that the build doesn't make are kept.

    Returns:
        The provenance record.

    Raises:
        ItemError: If no model is there.
    """
    from thesis_rec.truth.cells import response_names

    truth, fine_tune = settings.truth, settings.fine_tune
    assert truth is not None
    assert fine_tune is not None
    names = shop.trained(plan)
    if not names:
        raise ItemError(str(shop.folder), "No trained model is there.", "Run the stage that trains models first.")
    recipes = {recipe.model_id: recipe for recipe in plan.recipes}
    cards = {name: shop.card(name) or {} for name in names}
    with _fresh_folder(output / "models") as folder:
        for name in names:
            shutil.copytree(shop.model_folder(name), folder / encode_id(name))
    if (shop.folder / "clip").is_dir():
        with _fresh_folder(output / "clip") as folder:
            shutil.copytree(shop.folder / "clip", folder, dirs_exist_ok=True)
    truth_folder = shop.folder / f"truth-{truth_hash(plan, truth)}"
    tuned_folder = shop.folder / f"fine_tune-{fine_tune_hash(plan, fine_tune)}"
    measured = [name for name in names if _read(truth_folder / f"{encode_id(name)}.json")]
    tuned = [name for name in names if _read(tuned_folder / f"{encode_id(name)}.json")]
    records = [*_tables(truth_folder, measured, "records"), *_tables(tuned_folder, tuned, "records")]
    seconds = _costs(truth_folder, measured), _costs(tuned_folder, tuned)
    if records:
        _write_parquet(compact_records(pd.concat(records, ignore_index=True)), output / "performance_records.parquet")
    scores = _tables(truth_folder, measured, "scores")
    if scores:
        _write_parquet(compact_scores(pd.concat(scores, ignore_index=True)), output / "transferability_scores.parquet")
    profiles = [
        pd.read_parquet(path)
        for path in sorted(shop.folder.glob("hardware-*/*.profile.parquet"))
        if path.name.removesuffix(".profile.parquet") in {encode_id(name) for name in names}
    ]
    if profiles:
        _write_parquet(pd.concat(profiles, ignore_index=True), output / "hardware_profiles.parquet")
    if measured and plan.reference_tasks:
        responses = []
        for name in measured:
            with np.load(truth_folder / f"{encode_id(name)}.responses.npz", allow_pickle=False) as file:
                responses.append(file["responses"])
        with atomic_path(output / "model_responses.npz") as path, path.open("wb") as file:
            np.savez_compressed(
                file,
                responses=np.stack(responses).astype(np.float16),
                model_ids=np.array(measured),
                names=np.array(response_names(list(plan.reference_tasks), truth.response)),
            )
    rows = [_row(recipes[name]).model_dump() for name in names]
    for row in rows:
        row["n_parameters"] = cards[row["model_id"]]["n_parameters"]
    _write_csv(pd.DataFrame(rows), output / "model_manifest.csv")
    _write_csv(dataset_manifest(plan), output / "dataset_manifest.csv")
    unknown = unknown_sides(plan, names)
    write_json(output / "sides.json", unknown)
    linear_cells = sum(len(table) for table in _tables(truth_folder, measured[:1], "records")) * len(measured)
    content = {
        "format": 1,
        "seed": plan.seed,
        "sizes": asdict(plan.sizes),
        **environment(shop.device),
        "licence": LICENCE,
        "unknown": unknown,
        "reference_tasks": list(plan.reference_tasks),
        "truth": {
            "settings": asdict(truth),
            "seconds": seconds[0],
            "seconds_per_linear_probe": round(seconds[0].get("total", 0.0) / max(1, linear_cells), 6),
            "models": len(measured),
        },
        "fine_tune": {
            "settings": asdict(fine_tune),
            "seconds": seconds[1],
            "seconds_per_cell": round(seconds[1].get("total", 0.0) / max(1, len(tuned) * len(plan.fine_tuned()[1])), 4),
            "models": len(tuned),
        },
        "clip": _read(shop.folder / "clip.json"),
        "models": {name: {key: value for key, value in cards[name].items() if key != "recipe_hash"} for name in names},
        "files": hash_tree(output),
    }
    with atomic_path(output / PROVENANCE_FILE) as path:
        # One line per model and file: small, and differences stay readable.
        path.write_text(_lines(content), encoding="utf-8")
    return content


def _lines(content: dict[str, Any]) -> str:
    parts = []
    for key, value in content.items():
        if key in ("models", "files"):
            inner = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in value.items())
            parts.append(f"{json.dumps(key)}: {{\n{inner}\n}}")
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _tables(folder: Path, names: Sequence[str], kind: str) -> list[pd.DataFrame]:
    return [pd.read_parquet(folder / f"{encode_id(name)}.{kind}.parquet") for name in names]


def _costs(folder: Path, names: Sequence[str]) -> dict[str, float]:
    """Seconds of each part, summed over models."""
    total: dict[str, float] = {}
    for name in names:
        for key, value in (_read(folder / f"{encode_id(name)}.json") or {"seconds": {}})["seconds"].items():
            total[key] = round(total.get(key, 0.0) + value, 3)
    return total


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def compact_records(records: pd.DataFrame) -> pd.DataFrame:
    """Performance records without cost, sorted, in types that take little space."""
    columns = ["model_id", "dataset_id", "protocol", "metric", "value", "seed", "n_train", "source"]
    table = records[columns].sort_values(["protocol", "dataset_id", "seed", "model_id"], ignore_index=True)
    # Accuracies are fractions of a few hundred test images: four digits hold them.
    table["value"] = table["value"].astype(float).round(4)
    return table.astype({"seed": "int32", "n_train": "int32"})


def compact_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Transferability scores sorted and rounded to four significant digits, their cost to two."""
    table = scores.sort_values(["method", "dataset_id", "model_id"], ignore_index=True)
    table["value"] = _significant(table["value"].to_numpy(dtype=float), 4)
    table["seconds"] = _significant(table["seconds"].to_numpy(dtype=float), 2)
    return table


def _significant(values: np.ndarray, digits: int) -> np.ndarray:
    rounded = values.copy()
    usable = np.isfinite(values) & (values != 0)
    scale = 10.0 ** (digits - 1 - np.floor(np.log10(np.abs(values[usable]))))
    rounded[usable] = np.round(values[usable] * scale) / scale
    return rounded


def dataset_manifest(plan: ZooPlan) -> pd.DataFrame:
    """The zoo's dataset manifest: base tasks, then sub-tasks."""
    from thesis_rec.starter import subtasks

    rows = []
    for task in plan.measured():
        is_base = task.draws
        rows.append(
            {
                "dataset_id": task.dataset_id,
                "loader": "generated" if is_base else "",
                "source": task.dataset_id if is_base else "",
                "image_column": "",
                "label_column": "",
                "splits": "pretrain;train;test" if is_base else "",
                "domain": subtasks.domain(task),
                "group": subtasks.group(task),
                "parent": "" if is_base else ";".join(subtasks.parents(task)),
                "class_subset": "" if is_base else subtasks.class_subset(task),
            }
        )
    return pd.DataFrame(rows)


def unknown_sides(plan: ZooPlan, model_ids: Sequence[str]) -> dict[str, list[str]]:
    """Families, datasets and models that count as unknown.

    A model is unknown when its architecture family is, or when it was pre-trained on an unknown source. A dataset is
    unknown when its family is; mixtures never mix both sides.
    """
    from thesis_rec.starter import sides
    from thesis_rec.starter.architectures import UNKNOWN_FAMILIES
    from thesis_rec.starter.tasks import BASE_TASKS

    foreign = set(sides.UNKNOWN_TASK_FAMILIES)
    recipes = {recipe.model_id: recipe for recipe in plan.recipes}
    return {
        "dataset_families": sorted(foreign),
        "dataset_ids": [
            task.dataset_id
            for task in plan.measured()
            if any(BASE_TASKS[base].family in foreign for base, _ in task.members)
        ],
        "model_families": sorted(UNKNOWN_FAMILIES),
        "model_sources": sorted({r.source.name for r in plan.recipes if not r.source.known}),
        "model_ids": [
            name for name in model_ids if recipes[name].family in UNKNOWN_FAMILIES or not recipes[name].source.known
        ],
    }


def _take_turns(queues: Sequence[Sequence[Any]], count: int) -> list[Any]:
    """The first items of all queues, then their second ones, and so on, until there are ``count``."""
    longest = max((len(queue) for queue in queues), default=0)
    turns = [queue[i] for i in range(longest) for queue in queues if i < len(queue)]
    return turns[:count]


def _spread(tasks: Sequence[str], count: int | None, seed: int) -> list[str]:
    """Some base tasks, as evenly over their families as possible, in random order within each."""
    if count is None or count >= len(tasks):
        return list(tasks)
    from thesis_rec.starter.tasks import BASE_TASKS

    families: dict[str, list[str]] = {}
    for task in tasks:
        families.setdefault(BASE_TASKS[task].family, []).append(task)
    rng = np.random.default_rng([seed, 4])
    queues = [[members[i] for i in rng.permutation(len(members))] for members in families.values()]
    return _take_turns([queues[i] for i in rng.permutation(len(queues))], count)


def validate_build(data: Any) -> None:
    """Check what stages of a build pass on.

    Raises:
        ValueError: If plan, workshop or settings are missing.
    """
    for name, kind in (("plan", ZooPlan), ("shop", Workshop), ("settings", BuildSettings)):
        if not isinstance(getattr(data, name, None), kind):
            raise ValueError(f"expected a build with its {name}, got {type(data).__name__}")
