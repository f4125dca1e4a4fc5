"""Parameters of the pipeline recommendation."""

from pydantic import Field

from thesis_rec.images.encoders.image_encoder import EncoderConfig
from thesis_rec.recommendation.request import Request


class RecommendationParameters(Request):
    """What ``conf/base/parameters/recommendation.yml`` holds: a request, and where its images and artefacts are."""

    encoder: EncoderConfig
    models_root: str = Field(min_length=1)
    hub_cache: str = Field(min_length=1)
    zoo: str = "starter"
    images: str | None = None
    dataset: str | None = None

    @property
    def request(self) -> Request:
        """The request alone."""
        return Request(**{name: getattr(self, name) for name in Request.model_fields})
