"""Sub-tasks: some classes of one base task, or mixtures of classes of several."""

import numpy as np

from thesis_rec.base.tables import MeasuredTask
from thesis_rec.starter.sides import known_tasks, unknown_tasks
from thesis_rec.tasks import BASE_TASKS
from thesis_rec.truth.responses import MIN_CLASSES, Members, mixture_of, subset_of

UNKNOWN_SHARE = 5 / 22
KINDS = ("subset", "family_mixture", "mixture")
KIND_SHARES = (0.5, 0.2, 0.3)
_N_CLASSES = {name: len(task.class_names) for name, task in BASE_TASKS.items()}


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


def _draw(tasks: list[str], kind: str, rng: np.random.Generator) -> Members:
    """Draw one sub-task's members."""
    first = str(rng.choice(tasks))
    if kind == "subset":
        while _N_CLASSES[first] <= MIN_CLASSES:
            first = str(rng.choice(tasks))
        return subset_of(first, _N_CLASSES[first], rng)
    family = BASE_TASKS[first].family
    others = [i for i in tasks if i != first and (kind == "mixture" or BASE_TASKS[i].family == family)]
    return mixture_of(first, others, _N_CLASSES, rng)


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
