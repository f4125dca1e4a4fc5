"""Nodes of the pipeline evaluation."""

from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from thesis_rec.base.settings import Seed
from thesis_rec.evaluation.quadrant_evaluation import EvaluationSettings


class EvaluationParameters(EvaluationSettings):
    """What ``conf/base/parameters/evaluation.yml`` holds; each knob is explained there."""

    protocol: str = "linear_probe"
    max_tasks: int | None = Field(default=None, ge=1)
    seed: Seed = 0


def measure_noise(performance_records: pd.DataFrame, parameters: EvaluationParameters) -> dict[str, dict[str, float]]:
    """Weighted tau between repeats of the same measurement, by protocol; protocols without repeats have none."""
    from thesis_rec.truth.performance_records import noise_ceilings

    return noise_ceilings(performance_records, parameters.seed)


def evaluate_rankings(
    performance: pd.DataFrame,
    splits: pd.DataFrame,
    candidate_models: Any,
    task_tokens: dict[str, Any],
    dataset_manifest: pd.DataFrame,
    knowledge_of_known: dict[str, np.ndarray],
    similarity_checkpoint: dict[str, Any],
    transferability_scores: pd.DataFrame,
    noise_ceiling: dict[str, dict[str, float]],
    parameters: EvaluationParameters,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Rank with every method and compute every figure: rankings, figures of each dataset, and the metrics.

    Raises:
        ConfigurationError: If what was learned is of other models, datasets or codes than those that are known now.
    """
    from thesis_rec.evaluation import quadrant_evaluation
    from thesis_rec.evaluation.study import assemble_study
    from thesis_rec.knowledge.knowledge import Knowledge
    from thesis_rec.thesis.ranker import Ranker

    tables = performance, splits, candidate_models, task_tokens, dataset_manifest
    study = assemble_study(*tables, protocol=parameters.protocol, max_tasks=parameters.max_tasks, seed=parameters.seed)
    ranker, knowledge = Ranker.from_checkpoint(similarity_checkpoint), Knowledge.from_arrays(knowledge_of_known)
    quadrant_evaluation.check_learned(study, ranker, knowledge)
    return quadrant_evaluation.evaluate(
        study, ranker, transferability_scores, parameters, ceiling=noise_ceiling, knowledge=knowledge
    )


def draw_evaluation(evaluation_metrics: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """The figures of the metrics by name, and the first one for itself."""
    from thesis_rec.evaluation.charts import draw, evaluation_charts

    figures = {name: draw(chart) for name, chart in evaluation_charts(evaluation_metrics).items()}
    return figures, figures["quadrants"]
