"""Candidates meet real images and the present machine: measuring their cost, and trying them.

A try is a linear probe on the user's images, as the ground truth has it. Its value is a cell of the posterior, which
moves the candidates that err alike, and is stored under the key of the images' content, so that later requests on the
same images start from it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from thesis_rec.base.errors import Failure, ItemError, listed
from thesis_rec.base.files import atomic_path, one_at_a_time
from thesis_rec.base.progress import track
from thesis_rec.base.tables import MeasuredTask, TaskImages
from thesis_rec.knowledge.posterior import SCORE, TARGET, Cell, Posterior, next_probe
from thesis_rec.recommendation.answer import Recommendation
from thesis_rec.recommendation.bundle import PROTOCOL, Bundle, PublishedBeliefs
from thesis_rec.recommendation.candidates import Measure
from thesis_rec.recommendation.request import Asked, Request
from thesis_rec.truth.performance_records import error_of_accuracy

if TYPE_CHECKING:
    from thesis_rec.images.manifest import DatasetRow
    from thesis_rec.models.backbone import Backbone

logger = logging.getLogger(__name__)

#: Images of a class that a try trains and tests on, at most; of many classes fewer, so that some 256 pixels of each fit
#: into memory, but more than a probe draws.
PROBE_IMAGES, FEWEST_IMAGES, SIDE = 60, 24, 256

#: Training images of a class that a score sees, at most: as many as the scores of the embedded zoo saw.
SCORE_IMAGES = 48

#: Linear probes whose mean is a try's result: features are extracted once, and a draw more costs next to nothing.
PROBE_DRAWS = 10

#: Standard deviation of a value that is the mean of repeats, unless these lie further apart.
REPEATED_NOISE = 0.01

#: MiB per second that a download is expected to reach before any was measured.
MB_PER_SECOND = 10.0

#: Pixels of the images that go through a network at once: a batch of 8 at 224 x 224, so that a convolutional network of
#: usual size stays below 3 GB on a CPU; small images go in larger batches.
BATCH_PIXELS = 8 * 224 * 224


def model_loader(bundle: Bundle, device: str, offline: bool = False) -> Callable[[str], Any]:
    """A function that builds a model of the manifest by its id; offline, only from files on this machine."""

    def load(model_id: str) -> Any:
        from thesis_rec.models.loaders import load_backbone
        from thesis_rec.models.model_sources import hub_cache_folder, no_network

        if model_id not in bundle.rows:
            raise ItemError(model_id, "is no usable row of the model manifest.", "Correct the manifest.")
        with no_network() if offline else nullcontext():
            return load_backbone(bundle.rows[model_id], bundle.models_root, device, hub_cache_folder(bundle.hub_cache))

    return load


def measurer(bundle: Bundle, request: Request, device: str) -> Measure | None:
    """A function that measures a model here, at the request's precision and batch size; None where it can't be.

    It measures longer than a campaign over a zoo does: its answer decides. Unless the request says otherwise only
    models that need no download are measured; if it does, those that timm and open_clip make from a name as well, with
    random weights, which are as fast. Nothing is downloaded for it.
    """
    if request.measure is False:
        return None
    remote = set(bundle.manifest.loc[bundle.manifest["source"].astype(str).str.startswith("hf-hub:"), "model_id"])
    if request.measure is None and remote.issuperset(bundle.models.model_ids):
        return None

    load, there = model_loader(bundle, device, offline=True), bundle.on_this_machine()

    def network(model_id: str) -> Backbone | None:
        from thesis_rec.models.loaders import build_untrained

        if model_id in remote and model_id in bundle.rows:
            with suppress(ItemError):  # that of another library is measured with its files, if they are here
                return build_untrained(bundle.rows[model_id], device)
        return None if model_id in remote and model_id not in there else load(model_id)

    @cache
    def measure(model_id: str) -> pd.DataFrame | None:
        if request.measure is None and model_id in remote:
            return None
        from thesis_rec.hardware.profiling import profile_backbone
        from thesis_rec.hardware.timing import ProfileSettings

        once = ProfileSettings(precisions=(request.precision,), batch_sizes=(request.batch_size,))
        settings = once.model_copy(update={"warmup": 5, "min_repeats": 25, "tolerance": 0.01, "max_seconds": 0.3})
        try:
            if (backbone := network(model_id)) is None:
                return None
            return profile_backbone(backbone, device, settings)
        except Exception as error:
            # A candidate that can't be loaded (not downloaded, damaged) is judged by prediction, like all others.
            logger.warning("%s can't be measured here: %s", model_id, error)
            return None

    return measure


def try_models(
    found: Recommendation,
    bundle: Bundle,
    asked: Asked,
    posterior: Posterior,
    *,
    device: str = "cpu",
    probe: Callable[[str], float] | None = None,
) -> tuple[Posterior, list[str]]:
    """Score candidates that keep the limits, where that is asked for, and really try some, one after another.

    An interrupt (Ctrl-C) ends the trying, its results stay. A candidate that can't be run is passed over with a note;
    images that leave nothing to test on are a note too.

    Args:
        found: The answer without further tries.
        bundle: What is known.
        asked: The images.
        posterior: What is believed of all models.
        device: Torch device.
        probe: Tries a candidate and gives its value; by default a linear probe on the images.

    Returns:
        What is believed of all models now, and notes on the trying.
    """
    from thesis_rec.models.model_sources import hub_is_reachable

    # Before the first try: the images may change while models are tried.
    request, content = found.options, asked.content
    started, notes, failed, attempts = time.monotonic(), list[str](), set[str](), 0
    row_of = {model: row for row, model in enumerate(posterior.model_ids)}
    allowed = found.table["model_id"].tolist()
    rows = [row_of[model] for model in allowed]
    protocol = protocol_of_tries(request.protocol)
    n_test = n_images = 0
    there, strange = bundle.on_this_machine(), bundle.from_afar
    absent = [model for model in allowed if model not in there]
    if absent and (request.offline or (probe is None and not hub_is_reachable())):
        notes.append(f"Offline: {len(absent)} models that aren't on this machine were not tried.")
        failed.update(absent)
    bare = [model for model in allowed if model in bundle.rows and bundle.rows[model].loader == "local"]
    if bare:
        notes.append(f"{listed(bare, 3)} can't be tried: the loader local reads weights, and runs no network.")
        failed.update(bare)
    try:
        if probe is None:
            try:
                images, told = _probe_images(asked.row, len(asked.tokens.class_names))
                # Its bank holds all images once more: not where candidates are only scored.
                load = model_loader(bundle, device, request.offline)
                probe = linear_prober(images, device, load) if request.tries else None
            except Exception as error:  # the answer without tries stands
                return posterior, [*notes, f"No candidate could be tried: {error}"]
            notes += [note for note in told if note not in asked.notes]
            n_test, n_images = len(images.test_labels), len(images.test_labels) + len(images.train_labels)
            if request.score is not None:
                chosen = [model for model in allowed if model not in failed][: request.score]
                posterior = posterior.scored(score_models(chosen, images, device, load, notes), SCORE)
            # Tries have a copy of their own, and need the memory.
            del images
        while probe and (request.probe is None or attempts < request.probe):
            spent = time.monotonic() - started
            if request.probe_seconds is not None and spent > request.probe_seconds:
                break
            costs = costs_of(found.table, n_images)
            model_id = next_probe(posterior.only(rows), costs, skip=failed, unlike=strange, protocol=protocol)
            if model_id is None:
                break
            began, attempts = time.monotonic(), attempts + 1
            try:
                value = probe(model_id)
            except Exception as error:
                notes.append(_not_done(model_id, "tried", error))
                failed.add(model_id)
            else:
                posterior = posterior.given([Cell(model_id, value, noise_of_try(value, n_test), protocol)])
                seconds = time.monotonic() - began
                notes += store_try(bundle, content, posterior.cells[-1], n_test, seconds)
            reached, now = "failed" if model_id in failed else f"{value:.3f}", posterior.only(rows)
            best = f"best so far {now.best()} ({now.value()[now.mean.argmax()]:.3f})"
            spent = time.monotonic() - started
            logger.info("tried %s: %s; %s, try %d after %.1f s", model_id, reached, best, attempts, spent)
    except KeyboardInterrupt:
        notes.append("The trying was interrupted; what was learned until then is used.")
    what = "Trying" if request.tries else "Scoring"
    return posterior, [*notes, f"{what} took {time.monotonic() - started:.1f} s."]


def protocol_of_tries(asked: str) -> str:
    """Under which protocol a posterior that predicts ``asked`` takes tries, which are linear probes."""
    return TARGET if asked == PROTOCOL else PROTOCOL


def noise_of_try(value: float, n_test: int) -> float:
    """Standard deviation of an accuracy measured on ``n_test`` images; 0 of them: that of repeated measurements."""
    return float(error_of_accuracy(value, n_test)) if n_test else REPEATED_NOISE


def costs_of(table: pd.DataFrame, n_images: int) -> dict[str, float]:
    """Seconds that a try of each model will take: a download as fast as those before, and passes over the images.

    Args:
        table: The answer's table; a model whose files are on this machine has nothing to download.
        n_images: Images of a try.
    """
    from thesis_rec.models.model_sources import measured_bandwidth

    fetch = table["download_mb"].fillna(table["download_mb"].max()).fillna(0.0)
    fetch /= measured_bandwidth() or MB_PER_SECOND
    each = table["latency_ms"].fillna(table["latency_ms"].max()).fillna(0.0) / 1000
    return dict(zip(table["model_id"], (fetch + n_images * each + 0.1).tolist(), strict=True))


def _probe_images(row: DatasetRow, n_classes: int) -> tuple[Any, list[str]]:
    """Images to try models on, and what there is to say of them, near copies among it."""
    from thesis_rec.images.dataset_source import ImageLimits
    from thesis_rec.images.loading import MOST_BYTES, load_task_images
    from thesis_rec.images.overview import told

    warnings: list[Failure] = []
    fit = MOST_BYTES // (2 * 3 * SIDE**2 * n_classes)
    limits = ImageLimits(n_per_class=min(max(fit, FEWEST_IMAGES), PROBE_IMAGES))
    images = load_task_images(row, Path(), limits, warnings=warnings)
    of_files, others = told(warnings)
    return images, of_files + others


def score_models(
    models: Sequence[str], images: TaskImages, device: str, load: Callable[[str], Any], notes: list[str]
) -> dict[str, float]:
    """LogME of some models on some of the training images; an interrupt (Ctrl-C) keeps those that were scored.

    Args:
        models: Which.
        images: Images of the request.
        device: Torch device.
        load: Builds a model.
        notes: Gets a note on each model that can't be scored.
    """
    from thesis_rec.transferability.estimates import ScoreInput, log_me
    from thesis_rec.truth.cells import ImageBank

    labels = images.train_labels
    rows = np.sort(np.concatenate([np.flatnonzero(labels == c)[:SCORE_IMAGES] for c in np.unique(labels)]))
    few = replace(
        images,
        train_images=images.train_images[rows],
        train_labels=labels[rows],
        test_images=images.test_images[:0],
        test_labels=images.test_labels[:0],
    )
    bank = ImageBank({"asked": few}, device)
    found: dict[str, float] = {}
    try:
        for model in track(models, "scoring models"):
            try:
                backbone = load(model)
                features = bank.features(backbone, _batch_size(backbone, device))[0]
                value = log_me(ScoreInput(features, few.train_labels))
                if not np.isfinite(value):
                    raise ItemError(model, "has no finite score.", "Try it instead.")
                found[model] = value
            except Exception as error:
                notes.append(_not_done(model, "scored", error))
    except KeyboardInterrupt:
        notes.append("The scoring was interrupted; the scores until then are used.")
    return found


def _not_done(model_id: str, what: str, error: Exception) -> str:
    """A note that names the model once, which errors of items begin with."""
    return f"{model_id} couldn't be {what}: {str(error).removeprefix(f'{model_id}: ')}"


def _batch_size(backbone: Any, device: str) -> int:
    return int(np.clip(BATCH_PIXELS // backbone.input_size**2, 1, 512)) if device == "cpu" else 128


def linear_prober(images: TaskImages, device: str, load: Callable[[str], Any]) -> Callable[[str], float]:
    """A function that tries a model on images: the mean accuracy of few-shot linear probes, as the ground truth has it.

    Args:
        images: Images of the request.
        device: Torch device.
        load: Builds a model.
    """
    from thesis_rec.truth.cells import ImageBank, measure_model
    from thesis_rec.truth.settings import ProbeRecipe, TruthSettings

    # The draws of a probe depend on its dataset's name: what a folder is called must not change a result.
    bank = ImageBank({"asked": images}, device)
    task = MeasuredTask("asked", tuple(("asked", c) for c in range(len(images.class_names))))

    def probe(model_id: str) -> float:
        backbone = load(model_id)
        batch = _batch_size(backbone, device)
        settings = TruthSettings(linear_probe=ProbeRecipe(draws=PROBE_DRAWS), scores=(), batch_size=batch)
        return float(measure_model(backbone, bank, [task], [], settings).records["value"].mean())

    return probe


def _stored_tries(path: Path) -> pd.DataFrame:
    """The file of tries as text, so that writing it again changes nothing.

    Raises:
        ValueError: If it is no such table.
        OSError: If it can't be opened.
    """
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    needed = ("images", "model_id", "protocol", "value", "noise", "revision")
    if lacking := [name for name in needed if name not in table]:
        raise ValueError(f"it lacks the columns {', '.join(lacking)}")
    return table


def read_tries(
    path: Path | None, asked: Asked, weights_of: Callable[[str], str | None]
) -> tuple[list[Cell], list[str]]:
    """What was tried before on images of the same content, and notes on what of it doesn't count.

    Args:
        path: File of tries.
        asked: The images.
        weights_of: What tells a model's present weights; None of a model that isn't listed.
    """
    if path is None or not path.is_file():
        return [], []
    try:
        table = _stored_tries(path)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        return [], [
            f"{path} can't be read ({reason}): earlier tries aren't used, and none is added. Correct or delete it."
        ]
    rows = table[(table["images"] == asked.content) & (table["protocol"] == PROTOCOL)]
    # Of models that the zoo doesn't list nothing is asked.
    present = {model: weights_of(model) for model in rows["model_id"].unique()}
    rows = rows.assign(now=rows["model_id"].map(present)).dropna(subset="now")
    rows = rows.assign(**{name: pd.to_numeric(rows[name], errors="coerce") for name in ("value", "noise")})
    usable = rows["value"].between(0, 1) & rows["noise"].between(0, 1)
    notes = []
    if wrong := rows.loc[~usable, "model_id"].tolist():
        notes.append(f"{path}: earlier tries of {listed(wrong, 3)} have no usable value and aren't used. Correct it.")
    # Those of earlier versions don't tell the weights of models here.
    changed = rows["revision"].ne("") & rows["revision"].ne(rows["now"])
    if others := rows.loc[usable & changed, "model_id"].unique().tolist():
        notes.append(f"Earlier tries of {listed(others, 3)} were of other weights than the present ones: not used.")
    rows = rows[usable & ~changed].drop_duplicates("model_id", keep="last")
    return [Cell(*row) for row in rows[["model_id", "value", "noise"]].itertuples(index=False)], notes


def repeated_cells(rows: pd.DataFrame) -> list[Cell]:
    """Means over repeats as cells: ``model_id``, ``value`` and, where repeats tell it, ``noise``."""
    noise = np.fmax(rows.reindex(columns=["noise"])["noise"].astype(float), REPEATED_NOISE)
    columns = rows["model_id"].astype(str), rows["value"].astype(float), noise
    return [Cell(*row) for row in zip(*columns, strict=True)]


def known_as(bundle: Bundle, asked: Asked) -> tuple[set[str], set[str]]:
    """Datasets that are the images: rows of the manifest with their source, else what has their name and no row.

    Returns:
        Those that are, and those that were when they had another number of classes.
    """
    rows = bundle.datasets.reindex(columns=["dataset_id", "source", "loader"]).fillna("").astype(str)
    pictures = rows[(rows["loader"] != "generated") & (rows["source"] != "")]
    same = [str(Path(source).expanduser().resolve()) == asked.row.source for source in pictures["source"]]
    found = set(pictures.loc[same, "dataset_id"]) or {asked.row.dataset_id} - {*rows["dataset_id"], *bundle.tokens}
    now = len(asked.tokens.class_names)
    others = {name for name in found & set(bundle.tokens) if len(bundle.tokens[name].class_names) != now}
    return found - others, others


def measured_before(bundle: Bundle, asked: Asked, tried: Iterable[Cell]) -> tuple[list[Cell], list[str]]:
    """One's own measurements of the images, of models that weren't tried on them, and a note on what counts."""
    published = bundle.knowledge if isinstance(bundle.knowledge, PublishedBeliefs) else None
    there = set(bundle.models.model_ids)
    # Weights that are listed under another name.
    twins = published.twins if published else {}
    names = {name: twin for name, twin in twins.items() if name not in there}
    rows = bundle.performance.assign(model_id=bundle.performance["model_id"].replace(names))
    rows = rows.drop_duplicates(["model_id", "dataset_id"])
    these, changed = known_as(bundle, asked)
    strange = rows.loc[rows["dataset_id"].isin(these) & ~rows["model_id"].isin(there), "model_id"].tolist()
    rows = rows[rows["model_id"].isin(there)]
    here = rows["dataset_id"].isin(these)
    found = rows[here & ~rows["model_id"].isin([cell.model_id for cell in tried])]
    cells = repeated_cells(found)
    what = "1 model" if len(cells) == 1 else f"{len(cells)} models"
    told = f"Your own measurements of {what} on these images count as tries (measure again if they changed)."
    notes = [told] if cells else []
    if published and len(rows) and not here.any():
        others = listed(sorted(set(rows["dataset_id"])), 3)
        notes = [f"Your own measurements are of other images ({others}): they don't count here."]
    if changed := changed & {*rows["dataset_id"]}:
        few = listed(sorted(changed), 3)
        text = f"Your own measurements of {few} are of another number of classes than there is now"
        notes.append(f"{text}: they don't count. Measure again.")
    if strange:
        notes.append(f"Measurements of {listed(strange, 3)} don't count: the zoo {bundle.zoo} has no such models.")
    return cells, notes


def store_try(bundle: Bundle, content: str, cell: Cell, n_test: int, seconds: float) -> list[str]:
    """Add a try to the file of tries, all or nothing; a note where it can't be written."""
    if bundle.tries is None:
        return []
    row: Mapping[str, Any] = {
        "images": content, "model_id": cell.model_id, "protocol": PROTOCOL, "value": round(cell.value, 6),
        "noise": round(cell.noise, 6), "n_test": n_test, "seconds": round(seconds, 2),
        "revision": bundle.weights_of(cell.model_id),
        "measured_at": pd.Timestamp.now("UTC").isoformat(timespec="seconds"),
    }  # fmt: skip
    try:
        with one_at_a_time(bundle.tries), atomic_path(bundle.tries) as temporary:
            before = [_stored_tries(bundle.tries)] if bundle.tries.is_file() else []
            pd.concat([*before, pd.DataFrame([row])], ignore_index=True).to_csv(temporary, index=False)
    except (ValueError, OSError) as error:
        return [f"The try of {cell.model_id} couldn't be kept for later requests: {error}"]
    return []
