"""Which pre-trained model should I use for my images and my hardware?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thesis_rec.recommendation.answer import Recommendation
    from thesis_rec.recommendation.bundle import Bundle

__version__ = "0.1.0"


def recommend(
    source: str | Path,
    *,
    bundle: Bundle | None = None,
    project: str | Path | None = None,
    max_latency_ms: float | None = None,
    min_throughput: float | None = None,
    max_memory_mb: float | None = None,
    max_parameters: float | None = None,
    device: str = "here",
    batch_size: int = 1,
    precision: str = "fp32",
    licences: tuple[str, ...] = (),
    families: tuple[str, ...] = (),
    top: int = 10,
    level: float = 0.9,
    neighbours: int = 3,
    batches: int = 8,
    seed: int = 0,
    measure: bool = True,
    measure_seconds: float = 20.0,
    probe: int | None = None,
    probe_seconds: float | None = None,
) -> Recommendation:
    """Recommend a model for images.

    Args:
        source: Folder ``class_name/*.png`` or NPZ file.
        bundle: What is known; by default the artefacts of the project, one's own before the starter's.
        project: Folder of the project, by default the present folder or the nearest above it.
        max_latency_ms: Milliseconds of one call of ``batch_size`` images.
        min_throughput: Images per second.
        max_memory_mb: MiB of weights and one call's intermediate results.
        max_parameters: Number of weights.
        device: Device identifier, part of one, or ``here`` for the present machine.
        batch_size: Images in a call.
        precision: ``fp32``, ``fp16`` or ``bf16``.
        licences: Licences that are allowed, in any case of letters.
        families: Architecture families that are allowed.
        top: Number of models that the user wants to see; all feasible ones are ranked.
        level: Probability of the interval of the predicted value.
        neighbours: Known datasets that are named as reasons.
        batches: Batches of one image per class that the dataset is described by.
        seed: Seed of the choice of images.
        measure: Whether candidates are measured here when a limit needs a clock and the device is the present one.
        measure_seconds: Longest time spent on measuring candidates on the present device.
        probe: Number of candidates to really try on the images.
        probe_seconds: How long candidates are tried.

    Returns:
        The answer.

    Raises:
        ThesisRecError: If images, limits or artefacts are unusable.
    """
    from thesis_rec.hardware.budget import Budget
    from thesis_rec.knowledge.active_probing import ProbeBudget
    from thesis_rec.recommendation.answer import Options
    from thesis_rec.recommendation.asking import recommend_images

    budget = Budget(
        max_latency_ms=max_latency_ms,
        min_throughput=min_throughput,
        max_memory_mb=max_memory_mb,
        max_parameters=max_parameters,
        device=device,
        batch_size=batch_size,
        precision=precision,
        licences=licences,
        families=families,
    )
    options = Options(
        top=top, level=level, neighbours=neighbours, batches=batches, seed=seed, measure_seconds=measure_seconds
    )
    if bundle is None:
        from thesis_rec.commands.artefacts import load_bundle

        bundle = load_bundle(project)
    probes = None if probe is None and probe_seconds is None else ProbeBudget(probe, probe_seconds)
    return recommend_images(source, bundle, budget, options, measure=measure, probes=probes)
