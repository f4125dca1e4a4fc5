"""The committed networks of a zoo and what they reach, for comparing them with networks that were trained again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thesis_rec.starter.provenance import Provenance, verify_files

if TYPE_CHECKING:
    from torch import nn

    from thesis_rec.base.tables import TaskImages


def committed_model(model_id: str, provenance: Provenance, root: Path) -> nn.Module:
    """The committed network of a model as ``rebuild_model`` returns it, weights checked against their hash."""
    from safetensors.torch import load_file

    from thesis_rec.starter.architectures import ARCHITECTURES
    from thesis_rec.starter.checkpoints import WEIGHTS_FILES, library_module
    from thesis_rec.starter.construction import build

    verify_files(root, [f"models/{model_id}"], provenance.content)
    recipe = provenance.recipe(model_id)
    architecture = ARCHITECTURES[recipe.architecture]
    module = build(architecture, provenance.class_names(model_id), recipe.seed)
    library_module(module).load_state_dict(load_file(root / "models" / model_id / WEIGHTS_FILES[architecture.library]))
    return module.eval()


def as_backbone(module: nn.Module, model_id: str, class_names: list[str]) -> Any:
    """A network in memory as a ``thesis_rec.models.backbone.Backbone``, by way of its saved form on disk."""
    import tempfile

    from thesis_rec.models.loaders import load_backbone
    from thesis_rec.starter.architectures import ARCHITECTURES
    from thesis_rec.starter.checkpoints import save
    from thesis_rec.starter.tables import manifest_row

    architecture = ARCHITECTURES[model_id.split("__", 1)[0]]
    with tempfile.TemporaryDirectory() as folder:
        save(module, architecture, class_names, Path(folder) / "models" / model_id, {})
        return load_backbone(manifest_row(model_id, architecture.library, architecture.family, ""), Path(folder))


def truth_value(
    backbone: Any, dataset_id: str, images: Mapping[str, TaskImages], tasks: Mapping[str, Any], settings: Any
) -> float:
    """Mean linear-probe accuracy of a model on one task, as the committed records have it.

    Args:
        backbone: The model.
        dataset_id: Key of ``tasks``.
        images: Images of the base tasks that it is made of.
        tasks: ``MeasuredTask`` by identifier.
        settings: ``thesis_rec.truth.cells.TruthSettings`` of the zoo.
    """
    from thesis_rec.truth.cells import ImageBank, measure_model

    task = tasks[dataset_id]
    bases = {base for base, _ in task.members}
    truth = measure_model(backbone, ImageBank({base: images[base] for base in bases}), [task], [], settings)
    return float(np.mean(truth.records["value"]))
