"""Building the embedded zoo stage by stage, resumable item by item.

A deadline ends a stage between items. :func:`thesis_rec.starter.assembling.assemble` makes the zoo's own folder of the
working folder when the stages are through.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from thesis_rec.base.errors import Failure, ItemError
from thesis_rec.starter.making import train_encoder, train_models
from thesis_rec.starter.measuring import (
    fine_tune_models,
    measure_models,
    profile_models,
    tasks_to_measure,
    tasks_to_tune,
)
from thesis_rec.starter.plan import Sizes, ZooPlan
from thesis_rec.starter.workshop import Workshop

if TYPE_CHECKING:
    from thesis_rec.starter.clip import ClipSettings
    from thesis_rec.truth.settings import FineTuneSettings, TruthSettings

logger = logging.getLogger(__name__)


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
        from thesis_rec.truth.settings import FineTuneSettings, TruthSettings

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
    assert settings.truth is not None
    assert settings.fine_tune is not None
    sizes = plan.sizes
    if "models" in stages:
        there = set(shop.trained(plan))
        sources = [recipe.source for recipe in plan.recipes if recipe.model_id not in there]
        tasks = dict.fromkeys(task for source in sources for task in source.tasks)
        shop.painter.expect("pretrain", tasks, sizes.images_per_class)
    if "encoder" in stages and not (shop.folder / "clip").is_dir():
        shop.painter.expect("pretrain", plan.clip_tasks, settings.clip.images_per_class)
    measured: dict[str, None] = {}
    if "truth" in stages:
        measured |= dict.fromkeys(tasks_to_measure(plan, shop, settings.truth))
    if "fine_tune" in stages:
        measured |= dict.fromkeys(tasks_to_tune(plan, shop, settings.fine_tune))
    for task in measured:
        shop.painter.expect("train", [task], sizes.train_per_class)
        shop.painter.expect("test", [task], sizes.test_per_class)


def validate_build(data: Any) -> None:
    """Check what stages of a build pass on.

    Raises:
        ValueError: If plan, workshop or settings are missing.
    """
    for name, kind in (("plan", ZooPlan), ("shop", Workshop), ("settings", BuildSettings)):
        if not isinstance(getattr(data, name, None), kind):
            raise ValueError(f"expected a build with its {name}, got {type(data).__name__}")
