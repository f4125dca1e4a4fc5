"""Draws the data card's pictures, example tasks and a map of accuracies: ``python scripts/draw_example_tasks.py``."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from thesis_rec.starter.sides import ADDED_TASK_FAMILIES, REFERENCE_TASKS, UNKNOWN_TASK_FAMILIES
from thesis_rec.tasks import BASE_TASKS, example_grid, families

PROJECT = Path(__file__).resolve().parents[1]
IMAGES = PROJECT / "docs" / "images"
ZOO = PROJECT / "data" / "01_raw" / "starter"
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


def accuracy_map() -> Image.Image:
    """Mean linear-probe accuracy of the models of each pre-training source on each task family.

    Both are sorted by their means; names of families of the second generation are blue.
    """
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    records = pd.read_parquet(ZOO / "performance_records.parquet")
    records = records[(records["protocol"] == "linear_probe") & (records["seed"] >= 0)]
    sources = pd.read_csv(ZOO / "model_manifest.csv").set_index("model_id")["pretraining"]
    families = pd.read_csv(ZOO / "dataset_manifest.csv").set_index("dataset_id")["domain"]
    table = records.assign(source=records["model_id"].map(sources), family=records["dataset_id"].map(families))
    table = table.pivot_table(index="source", columns="family", values="value")
    table = table.loc[table.mean(axis=1).sort_values().index, table.mean().sort_values().index]
    figure, axes = plt.subplots(figsize=(10, 9.2), layout="constrained")
    shown = axes.imshow(table, cmap="viridis", aspect="auto")
    axes.set_xticks(range(table.shape[1]), table.columns, rotation=90, fontsize=8)
    axes.set_yticks(range(table.shape[0]), table.index, fontsize=8)
    for label in axes.get_xticklabels():
        label.set_color("tab:blue" if label.get_text() in ADDED_TASK_FAMILIES else "black")
    axes.set(xlabel="task family", ylabel="pre-trained on")
    figure.colorbar(shown, label="mean linear-probe accuracy", shrink=0.6)
    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())  # type: ignore[attr-defined]
    plt.close(figure)
    return picture


def main() -> None:
    """Write all pictures."""
    chosen = chosen_tasks()
    sides = {
        "tasks-known": [task for family, task in chosen.items() if family not in UNKNOWN_TASK_FAMILIES],
        "tasks-unknown": [chosen[family] for family in UNKNOWN_TASK_FAMILIES],
    }
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, tasks in sides.items():
        # 128 colours are enough for examples and keep the repository small.
        sheet(tasks).quantize(128).save(IMAGES / f"{name}.png", optimize=True)
    accuracy_map().quantize(128).save(IMAGES / "accuracy-map.png", optimize=True)


if __name__ == "__main__":
    main()
