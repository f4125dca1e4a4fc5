"""``thesis_rec.recommend``: the answer in Python, with the same wishes as on the command line."""

import inspect
from pathlib import Path
from typing import Any

from thesis_rec.recommendation.answer import Recommendation
from thesis_rec.recommendation.bundle import Bundle
from thesis_rec.recommendation.request import Request, asked


def recommend(
    images: str | Path,
    *,
    zoo: str | None = None,
    environment: str | None = None,
    project: str | Path | None = None,
    bundle: Bundle | None = None,
    **wishes: Any,
) -> Recommendation:
    """Recommend a model for images.

    Args:
        images: Folder ``class_name/*.png``, NPZ file, or folder of the library ``datasets``.
        zoo: ``hub`` for real models, ``starter`` for the laboratory's tiny ones; by default the one that the
            environment or conf/local names, else hub.
        environment: Kedro environment, by default the usual one.
        project: Folder of the project, by default the present folder or the nearest above it.
        bundle: What is known; by default read from the project.
        wishes: Fields of :class:`~thesis_rec.recommendation.request.Request`: limits, and how the answer is made.

    Returns:
        The answer.

    Raises:
        TypeError: If there is no such wish.
        ThesisRecError: If images, wishes or artefacts are unusable.
    """
    from thesis_rec.recommendation.asking import recommend_images

    request = asked(**wishes)
    if bundle is None:
        from thesis_rec.commands.artefacts import load_bundle

        bundle = load_bundle(project, environment, zoo)
    return recommend_images(images, bundle, request)


def _signature() -> inspect.Signature:
    """The function's own arguments and every wish with its type and default."""
    own = [p for p in inspect.signature(recommend).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    wishes = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.annotation)
        for name, field in Request.model_fields.items()
    ]
    return inspect.Signature([*own, *wishes])


recommend.__signature__ = _signature()  # type: ignore[attr-defined]
