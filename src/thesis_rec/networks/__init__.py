"""The networks: an autoencoder of weight vectors and two rankers that read models and dataset tokens."""

from thesis_rec.networks.auto_encoder import AutoEncoder, embed_vectors, encoder_half
from thesis_rec.networks.cross_attention import CrossAttentionRanker
from thesis_rec.networks.similarity_transformer import SimilarityTransformer

__all__ = [
    "AutoEncoder",
    "CrossAttentionRanker",
    "SimilarityTransformer",
    "build_ranker",
    "embed_vectors",
    "encoder_half",
]


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
