"""What all settings and parameters have in common."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Values that don't change; a name that none of them has is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)
