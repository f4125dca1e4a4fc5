"""Draws the pictures of example tasks for the data card: ``python scripts/draw_example_tasks.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from thesis_rec.starter.sides import REFERENCE_TASKS, UNKNOWN_TASK_FAMILIES
from thesis_rec.starter.tasks import BASE_TASKS, example_grid, families

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
LABEL, GAP, COLUMNS, MOST_CLASSES = 16, 12, 2, 12


def chosen_tasks() -> dict[str, str]:
    """One task of each family: the first evaluated one with at most ``MOST_CLASSES`` classes."""
    found = {}
    for family, tasks in families().items():
        evaluated = [task for task in tasks if task not in REFERENCE_TASKS]
        fitting = [task for task in evaluated if len(BASE_TASKS[task].class_names) <= MOST_CLASSES]
        found[family] = (fitting or evaluated)[0]
    return found


def sheet(tasks: list[str]) -> Image.Image:
    """Examples of several tasks in two columns, each with its name above."""
    font = ImageFont.load_default(12)
    grids = [example_grid(task, per_class=2) for task in tasks]
    grids = [grid[:, : MOST_CLASSES * 34 - 2] for grid in grids]
    height = LABEL + grids[0].shape[0] + GAP
    width = MOST_CLASSES * 34 + GAP
    rows = -(-len(tasks) // COLUMNS)
    picture = Image.new("RGB", (COLUMNS * width, rows * height), "white")
    draw = ImageDraw.Draw(picture)
    for i, (task, grid) in enumerate(zip(tasks, grids, strict=True)):
        x, y = (i // rows) * width, (i % rows) * height
        draw.text((x, y), f"{task}  ({len(BASE_TASKS[task].class_names)} classes)", fill="#263238", font=font)
        picture.paste(Image.fromarray(np.ascontiguousarray(grid)), (x, y + LABEL))
    return picture


def main() -> None:
    """Write both pictures."""
    chosen = chosen_tasks()
    sides = {
        "tasks-known": [task for family, task in chosen.items() if family not in UNKNOWN_TASK_FAMILIES],
        "tasks-unknown": [chosen[family] for family in UNKNOWN_TASK_FAMILIES],
    }
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, tasks in sides.items():
        # 128 colours are enough for examples and keep the repository small.
        sheet(tasks).quantize(128).save(IMAGES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
