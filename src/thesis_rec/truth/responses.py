"""Responses of a model to a fixed reference bank of images: a description that carries over between architectures.

The bank consists of reference tasks, which are never used for evaluation or pre-training, so a model's responses are
measured once and say nothing directly about any target. They are mean few-shot linear-probe accuracies: on each
reference task, then on sub-tasks of them (subsets and mixtures of their classes), which cost no forward pass and say
far more finely which distinctions a model makes easy.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.tables import MeasuredTask
from thesis_rec.truth.settings import ResponseSettings
from thesis_rec.truth.subtasks import draw_subtasks

logger = logging.getLogger(__name__)

#: How the names of the responses to reference tasks and to their sub-tasks end.
ON_TASK, ON_SUBTASK = "/linear_probe", "/subtask_probe"


def reference_subtasks(n_classes: Mapping[str, int], settings: ResponseSettings) -> list[MeasuredTask]:
    """The sub-tasks of the reference tasks on which models are probed.

    Args:
        n_classes: Number of classes of each reference task, in order.
        settings: How many.
    """
    drawn = draw_subtasks(n_classes, settings.subtasks, settings.seed)
    return [MeasuredTask(f"reference_{number:04d}", members, draws=False) for number, members in enumerate(drawn)]


def response_names(n_classes: Mapping[str, int], settings: ResponseSettings) -> list[str]:
    """Names of the responses, in order: of the reference tasks, then of their sub-tasks.

    Args:
        n_classes: Number of classes of each reference task, in order.
        settings: Number of sub-tasks.
    """
    return [
        *(f"{dataset_id}{ON_TASK}" for dataset_id in n_classes),
        *(f"{task.dataset_id}{ON_SUBTASK}" for task in reference_subtasks(n_classes, settings)),
    ]


def overlay_responses(parts: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Join responses of several zoos; of a model that several have, the last ones count.

    Args:
        parts: ``responses`` (M, R), ``model_ids`` (M,) and ``names`` (R,), the most trusted last. What isn't named as a
            response is left out: earlier files had more.

    Returns:
        The same of all models; empty without any. Responses on another reference bank than the first part's are left
        out.
    """
    bank: NDArray[np.str_] | None = None
    found: dict[str, NDArray[np.float32]] = {}
    for part in parts:
        if not len(part.get("responses", ())):
            continue
        names = np.asarray(part["names"], dtype=np.str_)
        kept = np.char.endswith(names, ON_TASK) | np.char.endswith(names, ON_SUBTASK)
        names, responses = names[kept], np.asarray(part["responses"], dtype=np.float32)[:, kept]
        bank = names if bank is None else bank
        if not np.array_equal(names, bank):
            models = ", ".join(map(str, part["model_ids"][:3]))
            logger.warning("responses of %s … were measured on another reference bank; they are left out", models)
            continue
        found |= dict(zip(map(str, part["model_ids"]), responses, strict=True))
    if bank is None:
        return {}
    return {"responses": np.stack(list(found.values())), "model_ids": np.array(list(found)), "names": bank}
