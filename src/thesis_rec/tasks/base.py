"""What a generated image task is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from thesis_rec.tasks import styles

Content = Callable[..., NDArray[Any]]
"""(class index, n, rng) -> (n, 32, 32) intensity or (n, 32, 32, 3) RGB, both in 0..1."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class BaseTask:
    """A classification task whose images come from a formula.

    Attributes:
        task_id: Identifier, `[a-z0-9_]+`.
        family: Theme; tasks of one family share what their images look like.
        description: One sentence: what has to be told apart.
        class_names: Names of the C classes.
        content: Draws one class; intensity maps are painted in random colours by the style.
        style: Nuisance put on every image, a key of `styles.STYLES`.
        group: `structured` (drawn figures) or `natural` (textures, shading, composed scenes).
        by_split: Whether `content` takes the split as keyword (real pixels, of which splits must be disjoint).
    """

    task_id: str
    family: str
    description: str
    class_names: tuple[str, ...]
    content: Content
    style: str = "plain"
    group: str = "structured"
    by_split: bool = False

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
        drawn = self.content(class_index, n, rng, **extra)
        image = drawn if drawn.ndim == 4 else styles.paint(drawn, self.style, rng)
        return styles.to_uint8(styles.finish(image, self.style, rng))


def by_class(draw: Callable[[Value, int, np.random.Generator], NDArray[Any]], values: Sequence[Value]) -> Content:
    """Make a content function from one that takes the class's value instead of its index."""

    def content(class_index: int, n: int, rng: np.random.Generator) -> NDArray[Any]:
        return draw(values[class_index], n, rng)

    return content


def family(name: str, group: str, rows: Sequence[tuple[str, str, str, Sequence[str], Content]]) -> tuple[BaseTask, ...]:
    """Build a family's tasks.

    Args:
        name: Family.
        group: `structured` or `natural`.
        rows: (task id without the family's name, style, description, class names, content) for each.

    Returns:
        The tasks, ids prefixed with the family's name.
    """
    return tuple(
        BaseTask(f"{name}_{suffix}", name, description, tuple(names), content, style, group)
        for suffix, style, description, names, content in rows
    )
