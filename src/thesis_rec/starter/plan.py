"""What the embedded zoo is to consist of, decided by seed before anything is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from thesis_rec.base.settings import Settings
from thesis_rec.starter.recipes import BUDGETS, IMAGES_PER_CLASS, ModelRecipe, default_sources, model_recipes

if TYPE_CHECKING:
    from thesis_rec.base.tables import MeasuredTask


class Sizes(Settings):
    """How much of the zoo is built; the defaults are the whole of it.

    Attributes:
        models: Number of models, spread over the families; None for all.
        tasks: Number of base tasks of the first generation to measure, spread over the families; None for all.
        added_tasks: The same of the second generation.
        references: Number of reference tasks; None for all.
        subtasks: Number of sub-tasks of the first generation.
        added_subtasks: Number of sub-tasks of the second generation.
        budget_factor: Multiplies the training budgets.
        max_steps: Cap of all training budgets; None for none.
        images_per_class: Pre-training images of each class.
        train_per_class: Images of each class from which probes are drawn.
        test_per_class: Images of each class on which they are tested.
        fine_tuned_models: Models that are fine-tuned.
        fine_tuned_tasks: Base tasks on which they are.
        repeated_tasks: How many of those are repeated with further seeds.
        repeats: Seeds of a repeated task.
    """

    models: int | None = Field(default=None, ge=1)
    tasks: int | None = Field(default=None, ge=1)
    added_tasks: int | None = Field(default=None, ge=0)
    references: int | None = Field(default=None, ge=1)
    subtasks: int = Field(default=2200, ge=0)
    added_subtasks: int = Field(default=330, ge=0)
    budget_factor: float = Field(default=1.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    images_per_class: int = Field(default=IMAGES_PER_CLASS, ge=1)
    train_per_class: int = Field(default=48, ge=2)
    test_per_class: int = Field(default=60, ge=1)
    fine_tuned_models: int = Field(default=48, ge=0)
    fine_tuned_tasks: int = Field(default=60, ge=0)
    repeated_tasks: int = Field(default=6, ge=0)
    repeats: int = Field(default=3, ge=1)


@dataclass(frozen=True)
class ZooPlan:
    """What is to be built, fixed before anything is.

    Attributes:
        seed: Of all choices.
        sizes: How much of it.
        recipes: Models to train.
        base_tasks: Base tasks to measure, generation by generation; reference tasks are not among them.
        reference_tasks: Tasks whose images models' responses are measured on.
        subtasks: Classes of base tasks to measure as further tasks, generation by generation.
        clip_tasks: Tasks that the image encoder is trained on; all of known families of the first generation.
    """

    seed: int
    sizes: Sizes
    recipes: tuple[ModelRecipe, ...]
    base_tasks: tuple[str, ...]
    reference_tasks: tuple[str, ...]
    subtasks: tuple[MeasuredTask, ...]
    clip_tasks: tuple[str, ...]

    def measured(self) -> list[MeasuredTask]:
        """Base tasks with all their classes, then sub-tasks."""
        from thesis_rec.base.tables import MeasuredTask
        from thesis_rec.tasks import BASE_TASKS

        base = [
            MeasuredTask(task, tuple((task, i) for i in range(len(BASE_TASKS[task].class_names))))
            for task in self.base_tasks
        ]
        return [*base, *self.subtasks]

    def generation(self, number: int) -> list[MeasuredTask]:
        """Those of :meth:`measured` that belong to a generation; no sub-task belongs to two."""
        from thesis_rec.starter import sides

        return [task for task in self.measured() if all(sides.generation(base) == number for base, _ in task.members)]

    def first_base_tasks(self) -> list[str]:
        """Base tasks of the first generation."""
        from thesis_rec.starter import sides

        return [task for task in self.base_tasks if sides.generation(task) == 1]

    def fine_tuned(self) -> tuple[list[str], list[tuple[str, int]]]:
        """Models to fine-tune, and cells of base task and seed; both spread over families."""
        families: dict[str, list[ModelRecipe]] = {}
        for recipe in self.recipes:
            families.setdefault(recipe.family, []).append(recipe)
        rng = np.random.default_rng([self.seed, 3])
        queues = []
        for recipes in families.values():
            # One size per family, so that one set of captured steps serves all of its models.
            small = [r for r in recipes if r.architecture.endswith("_a")] or recipes
            queues.append([small[i].model_id for i in rng.permutation(len(small))])
        models = take_turns(queues, self.sizes.fine_tuned_models)
        order = {recipe.model_id: recipe.architecture for recipe in self.recipes}
        models.sort(key=lambda model: (order[model], model))
        tasks = spread(self.first_base_tasks(), self.sizes.fine_tuned_tasks, self.seed)
        cells = [(task, 0) for task in tasks]
        for task in tasks[: self.sizes.repeated_tasks]:
            cells += [(task, seed) for seed in range(1, self.sizes.repeats)]
        return models, cells

    def summary(self) -> dict[str, Any]:
        """What is planned, in JSON's own types."""
        fine_tuned, cells = self.fine_tuned()
        return {
            "models": [recipe.model_id for recipe in self.recipes],
            "base_tasks": list(self.base_tasks),
            "reference_tasks": list(self.reference_tasks),
            "subtasks": len(self.subtasks),
            "updates": sum(recipe.steps for recipe in self.recipes),
            "fine_tuned_models": fine_tuned,
            "fine_tuned_cells": len(fine_tuned) * len(cells),
        }


def make_plan(seed: int = 0, sizes: Sizes | None = None) -> ZooPlan:
    """Decide what is built.

    Args:
        seed: Of all choices.
        sizes: How much; everything unless given.
    """
    from thesis_rec.starter import sides
    from thesis_rec.starter.subtasks import sample_added_subtasks, sample_subtasks

    sizes = sizes or Sizes()
    families, unknown = default_sources()
    references = [str(task) for task in sides.REFERENCE_TASKS][: sizes.references]
    base = spread([str(task) for task in sides.evaluation_tasks(1)], sizes.tasks, seed)
    added = spread([str(task) for task in sides.evaluation_tasks(2)], sizes.added_tasks, seed)
    if sizes.tasks is not None:
        # A small zoo draws its sources from the tasks that it measures, so that few images are needed.
        chosen = {family: [task for task in tasks if task in base] for family, tasks in families.items()}
        families = {family: tasks for family, tasks in chosen.items() if tasks} or dict(list(families.items())[:1])
    short, middle, long = (max(1, round(sizes.budget_factor * steps)) for steps in BUDGETS)
    recipes = model_recipes(families, unknown, seed, (short, middle, long))
    if sizes.models is not None:
        groups: dict[str, list[ModelRecipe]] = {}
        for recipe in recipes:
            groups.setdefault(recipe.family, []).append(recipe)
        # Not always the same sources: the n-th family begins with its n-th recipe.
        queues = [recipes_[i % 22 :] + recipes_[: i % 22] for i, recipes_ in enumerate(groups.values(), start=3)]
        recipes = take_turns(queues, sizes.models)
    recipes = [
        replace(
            recipe,
            steps=recipe.steps if sizes.max_steps is None else min(recipe.steps, sizes.max_steps),
            images_per_class=sizes.images_per_class,
        )
        for recipe in recipes
    ]
    allowed = {*base, *added}
    drawn = [
        *sample_subtasks(seed, sizes.subtasks),
        *sample_added_subtasks(seed, sizes.added_subtasks, first=sizes.subtasks),
    ]
    subtasks = [task for task in drawn if {parent for parent, _ in task.members} <= allowed]
    known = set(sides.known_tasks())
    clip_tasks = [task for task in base if task in known]
    return ZooPlan(
        seed=seed,
        sizes=sizes,
        recipes=tuple(recipes),
        base_tasks=(*base, *added),
        reference_tasks=tuple(references),
        subtasks=tuple(subtasks),
        clip_tasks=(*clip_tasks, *references),
    )


def take_turns(queues: Sequence[Sequence[Any]], count: int) -> list[Any]:
    """The first items of all queues, then their second ones, and so on, until there are ``count``."""
    longest = max((len(queue) for queue in queues), default=0)
    turns = [queue[i] for i in range(longest) for queue in queues if i < len(queue)]
    return turns[:count]


def spread(tasks: Sequence[str], count: int | None, seed: int) -> list[str]:
    """Some base tasks, as evenly over their families as possible, in random order within each."""
    if count is None or count >= len(tasks):
        return list(tasks)
    from thesis_rec.tasks import BASE_TASKS

    families: dict[str, list[str]] = {}
    for task in tasks:
        families.setdefault(BASE_TASKS[task].family, []).append(task)
    rng = np.random.default_rng([seed, 4])
    queues = [[members[i] for i in rng.permutation(len(members))] for members in families.values()]
    return take_turns([queues[i] for i in rng.permutation(len(queues))], count)
