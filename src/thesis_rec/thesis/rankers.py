"""The two rankers that read models and dataset tokens, by name."""

from thesis_rec.thesis.cross_attention import CrossAttentionRanker
from thesis_rec.thesis.similarity_transformer import SimilarityTransformer

__all__ = ["CrossAttentionRanker", "SimilarityTransformer", "build_ranker"]


def build_ranker(name: str, **arguments: object) -> CrossAttentionRanker | SimilarityTransformer:
    """A ranker by its name, ``similarity_transformer`` or ``cross_attention``.

    Raises:
        ValueError: If there is no such ranker.
    """
    if name == "cross_attention":
        return CrossAttentionRanker(**arguments)  # type: ignore[arg-type]
    if name == "similarity_transformer":
        return SimilarityTransformer(**arguments)  # type: ignore[arg-type]
    raise ValueError(f"unknown ranker {name!r}; choose similarity_transformer or cross_attention")
