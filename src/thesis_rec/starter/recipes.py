"""What every model of the embedded zoo is pre-trained on, and how.

Each architecture family gets the same plan of sources, so that family and source are crossed: a random initialisation
as control, two self-supervised networks, mixtures of known task families, single known tasks, and tasks of the families
that are kept unknown. Budgets and regularisation vary, so that quality and speciality both do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal
from zlib import crc32

import numpy as np

Objective = Literal["none", "classify", "rotate", "contrast"]

#: Numbers of updates, from barely trained to well trained.
BUDGETS = (150, 400, 1200)
#: Images in a training batch.
BATCH = 128
#: Pre-training images of each class.
IMAGES_PER_CLASS = 200
#: Singles, mixtures and unknown singles of each family; with one control and two self-supervised models 22 in all.
SINGLES, MIXTURES, UNKNOWN = 11, 5, 3
#: Known tasks that serve as single sources; each is used by several families.
SINGLE_POOL = 24


@dataclass(frozen=True)
class Source:
    """What a network is pre-trained on.

    Attributes:
        name: Used in model names and the manifest's ``pretraining`` column.
        objective: What is learned: nothing, the classes, the rotation of an image, or to tell images apart.
        tasks: Base tasks whose images are used.
        known: Whether all of them are of known families.
    """

    name: str
    objective: Objective
    tasks: tuple[str, ...]
    known: bool = True


@dataclass(frozen=True)
class ModelRecipe:
    """Everything that determines one model of the zoo.

    Attributes:
        model_id: ``<architecture>__<source>__<steps>``.
        architecture: Key of ``thesis_rec.starter.architectures.ARCHITECTURES``.
        source: What it is trained on.
        steps: Updates at batch 128; 0 for the control.
        learning_rate: Peak learning rate.
        weight_decay: AdamW's.
        label_smoothing: Of the cross-entropy.
        augment: Whether images are shifted and changed in brightness and contrast.
        images_per_class: Pre-training images of each class.
        seed: Of initial weights, batches and augmentation.
    """

    model_id: str
    architecture: str
    source: Source
    steps: int
    learning_rate: float
    weight_decay: float
    label_smoothing: float
    augment: bool
    images_per_class: int
    seed: int

    @property
    def family(self) -> str:
        """Architecture family."""
        return self.architecture.rsplit("_", 1)[0]

    def as_dict(self) -> dict[str, Any]:
        """JSON-serialisable content, for the provenance."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ModelRecipe:
        """The recipe that :meth:`as_dict` wrote."""
        source = content["source"]
        return cls(**{**content, "source": Source(**{**source, "tasks": tuple(source["tasks"])})})


def sources(
    families: Mapping[str, Sequence[str]], unknown: Sequence[str], seed: int = 0
) -> tuple[list[Source], list[Source], list[Source], list[Source]]:
    """The pre-training sources.

    Args:
        families: Known task families and their tasks that may serve as sources, in a fixed order.
        unknown: Tasks of unknown families that serve as sources.
        seed: Of the choice.

    Returns:
        Controls and self-supervised sources; mixtures, the first over all known families; single known tasks, spread
        over the families; single unknown tasks.
    """
    rng = np.random.default_rng([seed, crc32(b"sources")])
    order = {
        family: [str(task) for task in rng.permutation(list(tasks))] for family, tasks in families.items() if tasks
    }
    rounds = max(len(tasks) for tasks in order.values())
    spread = [tasks[i] for i in range(rounds) for tasks in order.values() if i < len(tasks)]
    singles = [Source(task, "classify", (task,)) for task in spread[:SINGLE_POOL]]
    # A dozen tasks stand for all known families: more classes would not be learned within the budgets.
    everything = tuple(tasks[-1] for tasks in order.values())[:12]
    mixtures = [Source("all_known", "classify", everything)]
    names = list(order)
    for i in range(8):
        count = int(rng.integers(2, 5))
        chosen = sorted(rng.choice(len(names), size=min(count, len(names)), replace=False).tolist())
        tasks = tuple(order[names[j]][(i + 1) % len(order[names[j]])] for j in chosen)
        mixtures.append(Source(f"mix{i}", "classify", tasks))
    special = [
        Source("random", "none", ()),
        Source("rotation", "rotate", everything),
        Source("contrast", "contrast", everything),
    ]
    return special, mixtures, singles, [Source(task, "classify", (task,), known=False) for task in unknown]


def model_recipes(
    families: Mapping[str, Sequence[str]] | None = None,
    unknown: Sequence[str] | None = None,
    seed: int = 0,
    budgets: tuple[int, int, int] = BUDGETS,
) -> list[ModelRecipe]:
    """All models of the zoo, in a fixed order.

    Args:
        families: Known task families and their tasks; those of ``thesis_rec.starter.sides`` unless given. Reference
            tasks must not be among them.
        unknown: Unknown tasks that serve as sources; those of ``sides`` unless given.
        seed: Of the choices, and the first part of every model's own seed.
        budgets: Numbers of updates, rising.

    Returns:
        22 recipes for each architecture family.
    """
    from thesis_rec.starter.architectures import ARCHITECTURES, FAMILIES

    if families is None or unknown is None:
        default_families, default_unknown = default_sources()
        families = default_families if families is None else families
        unknown = default_unknown if unknown is None else unknown
    special, mixtures, singles, foreign = sources(families, unknown, seed)
    recipes: list[ModelRecipe] = []
    for number, family in enumerate(FAMILIES):
        rng = np.random.default_rng([seed, crc32(family.encode())])
        # Every family meets "all known"; the others go round, so that each source is met by as many families.
        chosen = [
            *special,
            mixtures[0],
            *_round_robin(mixtures[1:], MIXTURES - 1, number * (MIXTURES - 1)),
            *_round_robin(singles, SINGLES, number * SINGLES),
            *_round_robin(foreign, UNKNOWN, number * UNKNOWN),
        ]
        drawn = _balanced(budgets, len(chosen), rng)
        variants = _balanced(("a", "a", "a", "b"), len(chosen), rng)
        decays = _balanced((1e-4, 5e-2), len(chosen), rng)
        smoothings = _balanced((0.0, 0.1), len(chosen), rng)
        augmentations = _balanced((False, True), len(chosen), rng)
        for i, source in enumerate(chosen):
            architecture = ARCHITECTURES[f"{family}_{variants[i]}"]
            steps = 0 if source.objective == "none" else drawn[i]
            # Self-supervision and many classes need the longer budgets to learn anything at all.
            if source.objective in ("rotate", "contrast") or source.name == "all_known":
                steps = max(steps, budgets[1]) if source.name != "all_known" else budgets[-1]
            model_id = f"{architecture.name}__{source.name}__{steps}"
            recipes.append(
                ModelRecipe(
                    model_id=model_id,
                    architecture=architecture.name,
                    source=source,
                    steps=steps,
                    learning_rate=architecture.learning_rate,
                    weight_decay=decays[i],
                    label_smoothing=0.0 if source.objective != "classify" else smoothings[i],
                    augment=source.objective == "contrast" or augmentations[i],
                    images_per_class=IMAGES_PER_CLASS,
                    seed=crc32(f"{seed}/{model_id}".encode()) % 2**31,
                )
            )
    return recipes


def default_sources() -> tuple[dict[str, list[str]], list[str]]:
    """Known families of the first generation with their evaluation tasks, and the unknown sources, as in ``sides``."""
    from thesis_rec.starter.sides import UNKNOWN_SOURCES, known_tasks
    from thesis_rec.tasks import BASE_TASKS

    families: dict[str, list[str]] = {}
    for task in known_tasks(1):
        families.setdefault(BASE_TASKS[task].family, []).append(task)
    # Real digits stay a task to be recommended for, never a source.
    families.pop("digits", None)
    return families, list(UNKNOWN_SOURCES)


def _round_robin(items: Sequence[Source], count: int, start: int) -> list[Source]:
    count = min(count, len(items))
    return [items[(start + i) % len(items)] for i in range(count)]


def _balanced(values: Sequence[Any], count: int, rng: np.random.Generator) -> list[Any]:
    """Each value nearly equally often, in random order."""
    repeated = [values[i % len(values)] for i in range(count)]
    return [repeated[i] for i in rng.permutation(count)]
