"""A user's request meets real images and real models: reading the images, measuring and probing candidates."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.base.errors import ItemError
from thesis_rec.hardware.pareto import pareto_front
from thesis_rec.recommendation.answer import interval_factor
from thesis_rec.recommendation.bundle import Bundle, extend_covariance

if TYPE_CHECKING:
    from thesis_rec.hardware.budget import Budget
    from thesis_rec.images.manifest import DatasetRow
    from thesis_rec.knowledge.active_probing import ActiveProbe, ProbeBudget
    from thesis_rec.recommendation.answer import Options, Recommendation
    from thesis_rec.recommendation.candidates import Measure
    from thesis_rec.thesis.ranking_data import TaskTokens

logger = logging.getLogger(__name__)

#: Images of a class that a probe trains and tests on, at most.
PROBE_IMAGES = 60

#: Linear probes whose mean is a probe's result: features are extracted once, and a draw more costs next to nothing.
PROBE_DRAWS = 10

#: Standard deviation of a given probe's result.
PROBE_NOISE = 0.01

#: Images in the report.
SAMPLE = 12

#: Candidates among which probes choose: exact algebra on their covariance stays instant.
PROBE_CANDIDATES = 500


@dataclass(frozen=True)
class Asked:
    """The images of a request.

    Attributes:
        row: How they are opened again.
        tokens: What the image encoder sees of them.
        sample: Some images with their class names, to show.
        notes: What was left out.
        n_held_out: Number of images that the tokens leave for testing, which probes do.
    """

    row: DatasetRow
    tokens: TaskTokens
    sample: tuple[tuple[NDArray[np.uint8], str], ...]
    notes: tuple[str, ...]
    n_held_out: int = 0


@dataclass(frozen=True)
class ProbeStep:
    """What one probe told.

    Attributes:
        model_id: The candidate that was tried.
        value: What it reached; NaN if it failed.
        best: The candidate that is expected to be best now.
        best_value: What is expected of it.
        seconds: Time spent so far.
        tried: Number of candidates tried so far, failed ones included.
    """

    model_id: str
    value: float
    best: str
    best_value: float
    seconds: float
    tried: int


def image_row(source: Path) -> DatasetRow:
    """A folder or NPZ file as a row of a dataset manifest.

    Raises:
        ItemError: If it is neither.
    """
    from thesis_rec.images.manifest import DatasetRow

    path = source.expanduser().resolve()
    if not path.exists():
        hint = "Give a folder class_name/*.png or an NPZ file."
        raise ItemError(str(source), "there is no such folder or file.", hint)
    if path.is_file() and path.suffix.lower() != ".npz":
        hint = "Give a folder with one folder of images per class, or an NPZ file with images and labels."
        raise ItemError(str(source), "is neither a folder nor an NPZ file.", hint)
    loader = "folder" if path.is_dir() else "npz"
    name = path.name if path.is_dir() else path.stem
    return DatasetRow(dataset_id=name or "images", loader=loader, source=str(path))


def read_images(source: Path, encoder: Mapping[str, Any], options: Options) -> Asked:
    """Encode what the tokens need of the images, and no more.

    Args:
        source: Folder or NPZ file.
        encoder: Configuration of the image encoder.
        options: How many batches, and the seed.

    Raises:
        ItemError: If the images or the encoder can't be used.
    """
    from thesis_rec.images.encoders import EncoderConfig, load_encoder
    from thesis_rec.images.loading import open_split
    from thesis_rec.images.tokens import tokens_of_images

    row = image_row(source)
    images = open_split(row, "train", Path())
    warnings = list(images.warnings)
    network = load_encoder(EncoderConfig(**encoder))
    tokens = tokens_of_images(network, images, options.batches, options.seed, warnings=warnings)
    notes = tuple(f"{failure.error} {failure.hint}" for failure in warnings[:5])
    more = (f"and {len(warnings) - 5} more problems with single images",) if len(warnings) > 5 else ()
    return Asked(row, tokens, _sample(images, options.seed), notes + more, _n_held_out(row))


def _n_held_out(row: DatasetRow) -> int:
    """Number of images for testing; a source that has no such part is ranked all the same."""
    from thesis_rec.images.loading import open_split

    try:
        return len(open_split(row, "test", Path()))
    except ItemError:
        return 0


def _sample(images: Any, seed: int) -> tuple[tuple[NDArray[np.uint8], str], ...]:
    """One image each of up to ``SAMPLE`` classes, evenly chosen; further images where there are fewer classes."""
    rng = np.random.default_rng(seed)
    present = np.unique(images.labels)
    classes = present[np.linspace(0, len(present) - 1, min(SAMPLE, len(present))).round().astype(int)]
    found = []
    for c in classes:
        members = rng.permutation(np.flatnonzero(images.labels == c))
        for index in members[: max(1, SAMPLE // len(classes))]:
            try:
                found.append((images.image(int(index)), images.class_names[c]))
            except ItemError:
                continue
    return tuple(found[:SAMPLE])


def present_device() -> tuple[str, str]:
    """The torch device to work on, and its identifier."""
    import torch

    from thesis_rec.hardware.fingerprint import device_fingerprint

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return device, device_fingerprint(device).device_id


def model_loader(bundle: Bundle, device: str) -> Callable[[str], Any]:
    """A function that builds a model of the manifest by its id."""
    from thesis_rec.models.loaders import load_backbone
    from thesis_rec.models.model_manifest import read_manifest
    from thesis_rec.models.model_sources import hub_cache_folder

    rows = {row.model_id: row for row in read_manifest(bundle.manifest)[0]}
    cache = hub_cache_folder(bundle.hub_cache) if bundle.hub_cache else None

    def load(model_id: str) -> Any:
        if model_id not in rows:
            raise ItemError(model_id, "is no usable row of the model manifest.", "Correct the manifest.")
        return load_backbone(rows[model_id], bundle.models_root, device, cache)

    return load


def measurer(bundle: Bundle, budget: Budget, device: str) -> Measure:
    """A function that measures a model here, at the budget's precision and batch size; None where it can't be.

    It measures longer than a campaign over a zoo does: its answer decides.
    """
    from thesis_rec.hardware.profiling import profile_backbone
    from thesis_rec.hardware.timing import ProfileSettings

    settings = ProfileSettings(warmup=5, min_repeats=25, tolerance=0.01, max_seconds=0.3)
    load = model_loader(bundle, device)

    def measure(model_id: str) -> pd.DataFrame | None:
        try:
            backbone = load(model_id)
            return profile_backbone(
                backbone, model_id, device, (budget.precision,), (budget.batch_size,), settings=settings
            )
        except Exception as error:
            # A candidate that can't be loaded (not downloaded, damaged) is judged by prediction, like all others.
            logger.warning("%s can't be measured here: %s", model_id, error)
            return None

    return measure


def sharpen(
    found: Recommendation,
    bundle: Bundle,
    asked: Asked,
    budget: ProbeBudget,
    *,
    device: str = "cpu",
    on_probe: Callable[[ProbeStep], None] | None = None,
    probe: Callable[[str], float] | None = None,
) -> Recommendation:
    """Really try feasible candidates on the images, one after another, and rank by what is believed then.

    The ranker's predictions are the prior; which candidate to try next is chosen by expected improvement; each result
    moves the candidates that erred alike on earlier tasks. An interrupt (Ctrl-C) ends the probing, its results stay.

    Args:
        found: The recommendation without probes.
        bundle: What is known.
        asked: The images.
        budget: Number of candidates or seconds.
        device: Torch device.
        on_probe: Called after each probe.
        probe: Tries a candidate and gives its value; by default a linear probe on the images.

    Returns:
        The recommendation with updated values, intervals, order and ``probed_value``.
    """
    started = time.monotonic()
    notes = list(found.notes)
    candidates = found.table.head(PROBE_CANDIDATES)
    values: dict[str, float] = {}
    noise, tried = PROBE_NOISE, 0
    try:
        if probe is None:
            images = _probe_images(asked.row)
            noise = float(np.sqrt(0.25 / max(len(images.test_labels), 1)))
            probe = linear_prober(bundle, images, device)
        policy = _policy(bundle, candidates, noise, budget, values)
        while (model_id := policy.next()) is not None:
            if budget.seconds is not None and time.monotonic() - started > budget.seconds:
                break
            began, tried = time.monotonic(), tried + 1
            try:
                value = probe(model_id)
            except Exception as error:
                # A candidate that can't be run is out; the others go on with what is known so far.
                notes.append(f"{model_id} couldn't be probed: {error}")
                value = float("nan")
                candidates = candidates[candidates["model_id"] != model_id]
                policy = _policy(bundle, candidates, noise, budget, values)
            else:
                values[model_id] = value
                policy.observe(model_id, value, seconds=time.monotonic() - began)
            if on_probe is not None and policy.model_ids:
                best = policy.best()
                belief = float(policy.posterior().mean[policy.model_ids.index(best)])
                on_probe(ProbeStep(model_id, value, best, belief, time.monotonic() - started, tried))
    except KeyboardInterrupt:
        notes.append("The probing was interrupted; what was learned until then is used.")
    seconds = time.monotonic() - started
    notes.append(f"{len(values)} candidates were really tried on these images in {seconds:.1f} s.")
    # From the values alone: an interrupt may have come between a result and its use.
    return _with_posterior(found, _policy(bundle, candidates, noise, budget, values), values, notes)


def _policy(
    bundle: Bundle, candidates: pd.DataFrame, noise: float, budget: ProbeBudget, values: Mapping[str, float]
) -> ActiveProbe:
    """The probing policy for some candidates, of which some were tried already."""
    from thesis_rec.knowledge.active_probing import ActiveProbe
    from thesis_rec.knowledge.error_model import value_covariance
    from thesis_rec.knowledge.recommender import spread_error

    ids = candidates["model_id"].tolist()
    std = np.maximum(candidates["predicted_std"].to_numpy(float), 1e-3)
    if bundle.covariance is None:
        # Without earlier errors: half of the uncertainty is common to all candidates.
        errors = np.square(std).mean() * (0.5 + 0.5 * np.eye(len(ids)))
    else:
        row_of = {model: i for i, model in enumerate(bundle.models.model_ids)}
        errors = extend_covariance(bundle.covariance, bundle.models.select([row_of[model] for model in ids]))
    mean = candidates["predicted_value"].to_numpy(float)
    covariance = value_covariance(errors, mean, std, spread_error(bundle.ranker))
    policy = ActiveProbe(ids, mean, covariance, noise_std=noise, budget=budget)
    for model_id, reached in values.items():
        policy.observe(model_id, reached)
    return policy


def _with_posterior(
    found: Recommendation, policy: ActiveProbe, values: Mapping[str, float], notes: list[str]
) -> Recommendation:
    posterior = policy.posterior()
    mean = dict(zip(posterior.model_ids, posterior.mean.tolist(), strict=True))
    std = dict(zip(posterior.model_ids, posterior.std.tolist(), strict=True))
    table = found.table.copy()
    table["predicted_value"] = table["model_id"].map(mean).fillna(table["predicted_value"]).clip(0, 1)
    table["predicted_std"] = table["model_id"].map(std).fillna(table["predicted_std"])
    table["probed_value"] = table["model_id"].map(dict(values))
    reach = interval_factor(found.options.level) * table["predicted_std"]
    table["value_low"] = (table["predicted_value"] - reach).clip(0, 1)
    table["value_high"] = (table["predicted_value"] + reach).clip(0, 1)
    if values:
        # Once something was tried, expected values rank; scores of the ranker know nothing of it.
        table = table.sort_values(["predicted_value", "score"], ascending=False, kind="stable").reset_index(drop=True)
        table["rank"] = np.arange(1, len(table) + 1)
        table["on_pareto_front"] = pareto_front(table["latency_ms"], table["predicted_value"])
    return replace(found, table=table, notes=tuple(notes))


def _probe_images(row: DatasetRow) -> Any:
    from thesis_rec.images.loading import ImageLimits, load_task_images

    return load_task_images(row, Path(), ImageLimits(n_per_class=PROBE_IMAGES))


def linear_prober(bundle: Bundle, images: Any, device: str) -> Callable[[str], float]:
    """A function that tries a model on images: the mean accuracy of few-shot linear probes, as the ground truth has it.

    Args:
        bundle: What is known, for loading models.
        images: ``TaskImages`` of the request.
        device: Torch device.
    """
    from thesis_rec.truth.cells import TruthSettings, bench_on
    from thesis_rec.truth.image_bank import ImageBank
    from thesis_rec.truth.linear_probe import ProbeSettings
    from thesis_rec.truth.store import MeasuredTask

    name = images.dataset_id
    bank = ImageBank({name: images}, device)
    task = MeasuredTask(name, tuple((name, c) for c in range(len(images.class_names))))
    settings = TruthSettings(ProbeSettings(draws=PROBE_DRAWS), scores=(), batch_size=512)
    bench = bench_on(bank, [task], [], settings)
    load = model_loader(bundle, device)

    def probe(model_id: str) -> float:
        return float(bench.measure(load(model_id)).records["value"].mean())

    return probe
