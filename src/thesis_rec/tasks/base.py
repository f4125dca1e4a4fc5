"""What a generated image task is."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thesis_rec.tasks import styles

Draw = Callable[..., NDArray[Any]]
"""(a class's value, n, rng) -> (n, 32, 32) intensity or (n, 32, 32, 3) RGB, both in 0..1."""

Classes = Sequence[str] | Mapping[str, Any]
"""Names of the classes, with what is given to `Draw` for each; by default that is the name."""


@dataclass(frozen=True)
class BaseTask:
    """A classification task whose images come from a formula.

    Attributes:
        task_id: Identifier, `[a-z0-9_]+`.
        family: Theme; tasks of one family share what their images look like.
        description: One sentence: what has to be told apart.
        draw: Draws one class, given its value; intensity maps are painted in random colours by the style.
        classes: Names of the C classes, with the values that are drawn.
        style: Nuisance put on every image, a key of `styles.STYLES`.
        group: `structured` (drawn figures) or `natural` (textures, shading, composed scenes).
        by_split: Whether `draw` takes the split as keyword (real pixels, of which splits must be disjoint).
    """

    task_id: str
    family: str
    description: str
    draw: Draw
    classes: Mapping[str, Any]
    style: str
    group: str
    by_split: bool = False

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the C classes."""
        return tuple(self.classes)

    def render(self, class_index: int, n: int, rng: np.random.Generator, split: str = "train") -> NDArray[np.uint8]:
        """Draw n images of one class.

        Args:
            class_index: Index into `class_names`.
            n: How many.
            rng: Source of all randomness.
            split: Split the images belong to; matters only to tasks of real pixels.

        Returns:
            (n, 32, 32, 3) uint8 RGB.
        """
        extra = {"split": split} if self.by_split else {}
        drawn = self.draw(self.classes[self.class_names[class_index]], n, rng, **extra)
        image = drawn if drawn.ndim == 4 else styles.paint(drawn, self.style, rng)
        return styles.to_uint8(styles.finish(image, self.style, rng))


def numbered(names: Sequence[str]) -> dict[str, int]:
    """Classes whose values are their indices."""
    return {name: index for index, name in enumerate(names)}


def named(template: str, values: Iterable[Any]) -> dict[str, Any]:
    """Classes named after their values."""
    return {template.format(value): value for value in values}


def family(
    name: str, group: str, rows: Sequence[tuple[str, str, str, Draw, Classes]], by_split: bool = False
) -> tuple[BaseTask, ...]:
    """Build a family's tasks.

    Args:
        name: Family.
        group: `structured` or `natural`.
        rows: (task id without the family's name, style, description, what draws a class, classes) for each.
        by_split: See :class:`BaseTask`.

    Returns:
        The tasks, ids prefixed with the family's name.
    """
    return tuple(
        BaseTask(
            f"{name}_{suffix}" if suffix else name,
            name,
            description,
            draw,
            classes if isinstance(classes, Mapping) else {one: one for one in classes},
            style,
            group,
            by_split,
        )
        for suffix, style, description, draw, classes in rows
    )
