"""Nodes of the pipeline published."""

import logging
import time
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from thesis_rec import __version__
from thesis_rec.base.errors import NothingSucceeded
from thesis_rec.base.settings import Words
from thesis_rec.knowledge.covariance import Shrinkage
from thesis_rec.knowledge.protocols import ProtocolKnowledge, fit_protocols, learn_domains
from thesis_rec.models.model_manifest import read_aliases
from thesis_rec.published.cells import read_cells, read_datasets, read_sources
from thesis_rec.published.descriptions import describe

logger = logging.getLogger(__name__)


class PublishedParameters(Shrinkage):
    """What ``conf/base/parameters/published.yml`` holds; each knob is explained there."""

    tables: str = ""
    cache: str = Field(min_length=1)
    aliases: str = Field(min_length=1)
    strict: bool = True
    protocols: Words[str] = ("linear_probe", "zero_shot", "fine_tune")


def read_published_cells(parameters: PublishedParameters) -> tuple[pd.DataFrame, dict[str, Any]]:
    """All sources as cells, and what was read, dropped and missing.

    Raises:
        NothingSucceeded: If no source could be read, or any couldn't and ``strict`` is set.
    """
    tables = Path(parameters.tables).expanduser() if parameters.tables else None
    aliases = read_aliases(parameters.aliases)
    cache = Path(parameters.cache).expanduser()
    cells, report = read_cells(read_sources(), read_datasets(), aliases, tables, cache)
    for error in report["missing"].values():
        logger.warning("%s", error)
    missing = "; ".join(report["missing"].values())
    if cells.empty:
        raise NothingSucceeded(f"No published table could be read: {missing}")
    if missing and parameters.strict:
        raise NothingSucceeded(
            f"{len(report['missing'])} of the sources can't be read, and what the others say would take the place of "
            f"what the hub zoo knows; --params=published.strict=false learns without them: {missing}"
        )
    for source, rules in report["dropped"].items():
        shown = ", ".join(f"{count} {rule}" for rule, count in rules.items() if count) or "none"
        logger.info(
            "%s: %d cells; dropped: %s; %d models outside the manifest",
            source, (cells["source"] == source).sum(), shown, report["unknown_models"][source],
        )  # fmt: skip
    return cells, report


def learn_published_knowledge(
    hub_model_manifest: pd.DataFrame,
    published_cells: pd.DataFrame,
    published_report: dict[str, Any],
    parameters: PublishedParameters,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What the cells say of every model of the manifest, and what sets the datasets of each domain apart.

    Returns:
        Both as plain arrays, and their provenance.
    """
    known = read_datasets()
    classes = {name: one.classes for name, one in known.items()}
    provenance = {
        **published_report,
        "command": "kedro run --pipelines=published",
        "date": time.strftime("%Y-%m-%d"),
        "version": __version__,
        "cells": len(published_cells),
    }
    descriptions = describe(hub_model_manifest, published_cells)
    learned = fit_protocols(published_cells, classes, descriptions, parameters.protocols, parameters).arrays()
    # Domains lie beside what is stored.
    stored = ProtocolKnowledge.from_arrays(learned)
    datasets = pd.DataFrame({name: one.model_dump() for name, one in known.items()}).T
    told = learn_domains(stored, published_cells, datasets, descriptions["kind"], parameters)
    return learned, told.domain_arrays(), provenance
