"""Which generated tasks are known, unknown or kept for reference, and which were added later.

The unknown families were chosen by what they are before anything was measured on them, so that each kind of picture has
some on either side: a script, drawn figures, patterns made by rules, signals, textures, inspection and aerial pictures;
and of the second generation one of drawn things (instruments) and one of natural ones (rocks).

Tasks came in two generations. The first is what models and image encoder are trained on, what models are fine-tuned on
and what reference tasks are taken from; it stays as it was measured. In it one family of 32 was about colour, and the
interaction of models and tasks fell short of what the zoo was asked for; the second consists of families in which
colour carries the class. Models are measured on it, nothing is trained on it.
"""

from thesis_rec.tasks import BASE_TASKS

UNKNOWN_TASK_FAMILIES: tuple[str, ...] = (
    "glyphs_hebrew_arabic",
    "symmetry",
    "automata",
    "relation",
    "spectrograms",
    "defects",
    "lattices",
    "maps",
    "flow",
    "indicators",
    "minerals",
)
"""Families of which no performance is ever seen in training."""

ADDED_TASK_FAMILIES: tuple[str, ...] = ("flags", "fruit", "foliage", "indicators", "minerals", "textiles", "skies")
"""Families of the second generation."""

GENERATIONS = (1, 2)
"""Numbers of the generations, in the order in which they were made."""

UNKNOWN_SOURCES: tuple[str, ...] = ("glyphs_hebrew_arabic_arabic_a", "spectrograms_kind", "maps_land_use")
"""Tasks of three unknown families on which some (unknown) models are pre-trained."""

REFERENCE_TASKS: tuple[str, ...] = (
    "shapes_small",
    "shapes_stretch",
    "counting_mixed_sizes",
    "position_bearing",
    "colour_dominant",
    "gratings_profile",
    "gratings_region",
    "noise_spectra_marginal",
    "voronoi_stretch",
    "turing_balance",
    "fractals_tree_kind",
    "fractals_julia_power",
    "glyphs_latin_lower_b",
    "glyphs_latin_fonts",
    "glyphs_greek_mixed",
    "glyphs_cyrillic_regional",
    "glyphs_caucasus_georgian_b",
    "glyphs_symbols_maths",
    "strokes_capitals",
    "strokes_doodles_hidden",
    "shading_material",
    "topology_petals",
    "topology_closed",
    "cells_outline",
    "scenes_ground_grey",
    "scenes_weather",
    "signs_picture",
    "charts_distribution",
    "search_feature",
    "digits_small",
)
"""The bank of images on which models' responses are measured; never evaluated, pre-trained on, or mixed with others."""


def generation(task_id: str) -> int:
    """The generation of a base task."""
    return 2 if BASE_TASKS[task_id].family in ADDED_TASK_FAMILIES else 1


def known_tasks(of_generation: int | None = None) -> list[str]:
    """Evaluation tasks of the known families, of all generations or of one."""
    return [i for i in _of(of_generation) if BASE_TASKS[i].family not in UNKNOWN_TASK_FAMILIES]


def unknown_tasks(of_generation: int | None = None) -> list[str]:
    """Evaluation tasks of the unknown families, of all generations or of one."""
    return [i for i in _of(of_generation) if BASE_TASKS[i].family in UNKNOWN_TASK_FAMILIES]


def evaluation_tasks(of_generation: int | None = None) -> list[str]:
    """Base tasks on which models are measured: known, then unknown."""
    return known_tasks(of_generation) + unknown_tasks(of_generation)


def _of(of_generation: int | None) -> list[str]:
    return [i for i in BASE_TASKS if i not in REFERENCE_TASKS and of_generation in (None, generation(i))]
