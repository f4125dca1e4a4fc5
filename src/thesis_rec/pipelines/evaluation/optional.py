"""What a catalog entry may lack."""

from __future__ import annotations

from typing import Any

from thesis_rec.catalog.validators import validate_transferability_scores


def validate_optional_scores(data: Any) -> None:
    """A table of transferability scores, or nothing: a zoo of one's own may have none."""
    if isinstance(data, dict) and not data:
        return
    validate_transferability_scores(data)
