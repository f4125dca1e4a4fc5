"""Which generated tasks are known, unknown or kept for reference.

The unknown families were chosen by what they are before anything was measured, so that each kind of picture has some on
either side: a script, drawn figures, patterns made by rules, signals, textures, inspection and aerial pictures.
"""

from __future__ import annotations

from thesis_rec.starter.tasks import BASE_TASKS

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
)
"""Families of which no performance is ever seen in training."""

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
"""The bank of images on which models' responses are measured; never evaluated, pre-trained on, or mixed."""


def known_tasks() -> list[str]:
    """Evaluation tasks of the known families."""
    return [i for i, t in BASE_TASKS.items() if t.family not in UNKNOWN_TASK_FAMILIES and i not in REFERENCE_TASKS]


def unknown_tasks() -> list[str]:
    """Evaluation tasks of the unknown families."""
    return [i for i, t in BASE_TASKS.items() if t.family in UNKNOWN_TASK_FAMILIES]


def evaluation_tasks() -> list[str]:
    """All base tasks on which models are measured: known, then unknown."""
    return known_tasks() + unknown_tasks()
