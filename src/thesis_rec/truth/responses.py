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

Members = tuple[tuple[str, int], ...]

#: Draws in a row that give nothing new, after which no more are tried.
_PATIENCE = 100

#: Fewest and most classes of a sub-task, fewest of a mixture, and most tasks that are mixed.
MIN_CLASSES, MAX_CLASSES, MIN_MIXED, MAX_PARENTS = 2, 10, 4, 4


def subset_of(task: str, n_classes: int, rng: np.random.Generator) -> Members:
    """Some classes of one task, never all of them.

    Args:
        task: Identifier of the task.
        n_classes: Number of its classes, three at least.
        rng: Source of the draw.

    Returns:
        (task, class) of each class of the sub-task.
    """
    size = int(rng.integers(MIN_CLASSES, min(MAX_CLASSES, n_classes - 1) + 1))
    return tuple((task, int(k)) for k in sorted(rng.choice(n_classes, size, replace=False)))


def mixture_of(first: str, others: Sequence[str], n_classes: Mapping[str, int], rng: np.random.Generator) -> Members:
    """Classes of a task and of one to three others.

    Args:
        first: A task that is among the parents.
        others: Where the other parents are drawn from, as many as are mixed at least.
        n_classes: Number of classes of every task.
        rng: Source of the draw.

    Returns:
        (task, class) of each class of the sub-task.
    """
    parents = [first, *(str(i) for i in rng.choice(others, int(rng.integers(1, MAX_PARENTS)), replace=False))]
    # Every parent gives at least one class, the others fall to parents at random as far as these have any left.
    size = int(rng.integers(max(MIN_MIXED, len(parents)), MAX_CLASSES + 1))
    pool = [(parent, k) for parent in parents for k in range(n_classes[parent])]
    chosen = {(parent, int(rng.integers(n_classes[parent]))) for parent in parents}
    for j in rng.permutation(len(pool)):
        if len(chosen) >= size:
            break
        chosen.add(pool[j])
    return tuple(sorted(chosen, key=lambda member: (parents.index(member[0]), member[1])))


def draw_subtasks(n_classes: Mapping[str, int], count: int, seed: int) -> list[Members]:
    """Draw different sub-tasks, one subset for every mixture where there are tasks enough for either.

    Args:
        n_classes: Number of classes by task.
        count: How many; the first k of them are the same for every count >= k.
        seed: Of the draw.

    Returns:
        Members of each. Fewer than ``count`` where so many different ones can hardly be found.
    """
    rng = np.random.default_rng(seed)
    tasks = list(n_classes)
    divisible = [task for task in tasks if n_classes[task] > MIN_CLASSES]
    mixable = len(tasks) > MAX_PARENTS - 1
    found: dict[frozenset[tuple[str, int]], Members] = {}
    attempt, misses = 0, 0
    while len(found) < count and misses < _PATIENCE and (divisible or mixable):
        before, attempt = len(found), attempt + 1
        if divisible and (attempt % 2 or not mixable):
            task = str(rng.choice(divisible))
            members = subset_of(task, n_classes[task], rng)
        else:
            task = str(rng.choice(tasks))
            members = mixture_of(task, [other for other in tasks if other != task], n_classes, rng)
        found.setdefault(frozenset(members), members)
        misses = 0 if len(found) > before else misses + 1
    return list(found.values())


logger = logging.getLogger(__name__)

#: Sub-tasks of the reference tasks, and the seed of their draw: responses with another one don't compare.
SUBTASKS, SEED = 1000, 20240

#: How the names of the responses to reference tasks and to their sub-tasks end.
ON_TASK, ON_SUBTASK = "/linear_probe", "/subtask_probe"


def reference_tasks(n_classes: Mapping[str, int], subtasks: int = SUBTASKS) -> list[MeasuredTask]:
    """What models are probed on to describe them: the reference tasks, then sub-tasks of them.

    Args:
        n_classes: Number of classes of each reference task, in order.
        subtasks: Number of sub-tasks, fewer where there aren't so many different ones.
    """
    whole = [MeasuredTask(name, tuple((name, c) for c in range(count))) for name, count in n_classes.items()]
    drawn = draw_subtasks(n_classes, subtasks, SEED)
    return whole + [MeasuredTask(f"reference_{i:04d}", members, draws=False) for i, members in enumerate(drawn)]


def response_names(reference: Sequence[MeasuredTask]) -> list[str]:
    """Names of the responses to the :func:`reference_tasks`."""
    return [f"{task.dataset_id}{ON_TASK if task.draws else ON_SUBTASK}" for task in reference]


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
