"""Sub-tasks: some classes of one base task, or mixtures of classes of several."""

from __future__ import annotations

import numpy as np

from thesis_rec.starter.sides import known_tasks, unknown_tasks
from thesis_rec.starter.tasks import BASE_TASKS
from thesis_rec.truth.store import MeasuredTask

UNKNOWN_SHARE = 5 / 22
KINDS = ("subset", "family_mixture", "mixture")
KIND_SHARES = (0.5, 0.2, 0.3)
MIN_CLASSES, MAX_CLASSES, MAX_PARENTS = 2, 10, 4


def sample_subtasks(seed: int = 0, n: int = 2200) -> list[MeasuredTask]:
    """Draw sub-tasks of the evaluation tasks of the first generation.

    Half are class-subsets (2 to 10, never all, classes of one base task), the rest mixtures of 2 to 4 base tasks
    (4 to 10 classes), of one family or of any families. Five in 22 are made of unknown families; none crosses the
    border. The first k of n sub-tasks are the same for every n >= k.

    Args:
        seed: Of the draw.
        n: How many.

    Returns:
        `MeasuredTask`s without duplicates, called `sub_00000` and on; only the mean over draws is recorded of each.
    """
    return _sample([known_tasks(1), unknown_tasks(1)], n, 0, np.random.SeedSequence([seed, 0x5B7A]))


def sample_added_subtasks(seed: int = 0, n: int = 330, first: int = 2200) -> list[MeasuredTask]:
    """Draw sub-tasks of the second generation's tasks by the same rules; mixtures are of that generation only.

    Args:
        seed: Of the draw.
        n: How many.
        first: Number in the first one's identifier.

    Returns:
        As :func:`sample_subtasks`.
    """
    return _sample([known_tasks(2), unknown_tasks(2)], n, first, np.random.SeedSequence([seed, 0x5B7A, 2]))


def _sample(sides: list[list[str]], n: int, first: int, stream: np.random.SeedSequence) -> list[MeasuredTask]:
    """Draw sub-tasks of known and unknown tasks, numbered from `first` on."""
    rng = np.random.default_rng(stream)
    seen: set[frozenset[tuple[str, int]]] = set()
    found: list[MeasuredTask] = []
    while len(found) < n:
        i = len(found)
        tasks = sides[int((i + 1) * UNKNOWN_SHARE) > int(i * UNKNOWN_SHARE)]
        members = _draw(tasks, str(rng.choice(KINDS, p=KIND_SHARES)), rng)
        if frozenset(members) not in seen:
            seen.add(frozenset(members))
            found.append(MeasuredTask(f"sub_{first + i:05d}", members, draws=False))
    return found


def _draw(tasks: list[str], kind: str, rng: np.random.Generator) -> tuple[tuple[str, int], ...]:
    """Draw one sub-task's members."""
    first = str(rng.choice(tasks))
    if kind == "subset":
        while _n_classes(first) <= MIN_CLASSES:
            first = str(rng.choice(tasks))
        n_classes = _n_classes(first)
        size = int(rng.integers(MIN_CLASSES, min(MAX_CLASSES, n_classes - 1) + 1))
        return tuple((first, int(k)) for k in sorted(rng.choice(n_classes, size, replace=False)))
    family = BASE_TASKS[first].family
    others = [i for i in tasks if i != first and (kind == "mixture" or BASE_TASKS[i].family == family)]
    parents = [first, *(str(i) for i in rng.choice(others, int(rng.integers(1, MAX_PARENTS)), replace=False))]
    # Every parent gives at least one class, the others fall to parents at random as far as these have any left.
    size = int(rng.integers(max(4, len(parents)), MAX_CLASSES + 1))
    pool = [(parent, k) for parent in parents for k in range(_n_classes(parent))]
    chosen = {(parent, int(rng.integers(_n_classes(parent)))) for parent in parents}
    for j in rng.permutation(len(pool)):
        if len(chosen) >= size:
            break
        chosen.add(pool[j])
    return tuple(sorted(chosen, key=lambda member: (parents.index(member[0]), member[1])))


def _n_classes(task_id: str) -> int:
    return len(BASE_TASKS[task_id].class_names)


def parents(task: MeasuredTask) -> list[str]:
    """Base tasks of a (sub-)task, in order of appearance."""
    return list(dict.fromkeys(base for base, _ in task.members))


def domain(task: MeasuredTask) -> str:
    """The families of a (sub-)task's base tasks, joined by `+` in alphabetical order."""
    return "+".join(sorted({BASE_TASKS[base].family for base in parents(task)}))


def group(task: MeasuredTask) -> str:
    """`natural` or `structured`: the group of most of a (sub-)task's classes (a tie is natural)."""
    natural = sum(BASE_TASKS[base].group == "natural" for base, _ in task.members)
    return "natural" if 2 * natural >= len(task.members) else "structured"


def class_subset(task: MeasuredTask) -> str:
    """A sub-task's members as the dataset manifest writes them: `base_id:class_index` joined by `;`."""
    return ";".join(f"{base}:{k}" for base, k in task.members)
