"""Which pre-trained model should I use for my images and my hardware?"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thesis_rec.commands.python_door import recommend as recommend

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The one Python door, ``thesis_rec.recommend(images, max_latency_ms=5)``; it is made when first asked for.

    Its signature comes from the request's own model, and importing the package for another reason costs nothing.
    """
    if name == "recommend":
        from thesis_rec.commands.python_door import recommend

        globals()[name] = recommend
        return recommend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
