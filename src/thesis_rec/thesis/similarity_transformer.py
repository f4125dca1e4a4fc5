"""A BERT encoder that reads candidate models and dataset tokens as one sequence."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from thesis_rec.thesis.heads import RankingHeads, project_models

_CLS, _MODEL, _TOKEN = 0, 1, 2


class SimilarityTransformer(nn.Module):
    """``[CLS] model ... model token ... token`` through a BERT encoder; one score per model, read at its place.

    The encoder is that of Devlin et al., "BERT", 2019, as implemented by ``transformers``. Type embeddings tell the
    three kinds of position apart; there is no positional encoding, so the order of tokens doesn't matter. By default
    the attention mask hides models from everything but themselves: a model's score then doesn't depend on which others
    are candidates, and candidates can be scored in chunks.

    Args:
        model_dim: Width E of the models' features.
        token_dim: Width D of the dataset tokens.
        width: Width of the encoder.
        n_layers: Number of encoder layers.
        n_heads: Number of attention heads.
        rank: Rank of the bilinear interaction in the heads.
        dropout: Dropout probability.
        candidates_interact: Whether models attend to each other, and tokens to models.
    """

    def __init__(
        self,
        model_dim: int,
        token_dim: int,
        width: int = 96,
        n_layers: int = 2,
        n_heads: int = 4,
        rank: int = 16,
        dropout: float = 0.1,
        candidates_interact: bool = False,
    ) -> None:
        super().__init__()
        from transformers.models.bert.configuration_bert import BertConfig
        from transformers.models.bert.modeling_bert import BertEncoder

        config = BertConfig(
            hidden_size=width,
            num_hidden_layers=n_layers,
            num_attention_heads=n_heads,
            intermediate_size=2 * width,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=0.0,
        )
        # The encoder alone, not BertModel, which would add positional embeddings.
        config._attn_implementation = "sdpa"
        self.encoder = BertEncoder(config)
        self.candidates_interact = candidates_interact
        self.model_in = nn.Sequential(nn.Dropout(dropout), nn.Linear(model_dim, width))
        self.token_in = nn.Sequential(nn.Dropout(dropout), nn.Linear(token_dim, width))
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.types = nn.Embedding(3, width)
        self.norm = nn.LayerNorm(width)
        self.heads = RankingHeads(width, rank, dropout)

    def forward(self, models: Tensor, tokens: Tensor, token_mask: Tensor) -> dict[str, Tensor]:
        """Score models for datasets.

        Args:
            models: (B, M, E) features of the candidates.
            tokens: (B, T, D) tokens of the datasets.
            token_mask: (B, T) True where a token is valid.

        Returns:
            ``score``, ``value`` and ``log_std``, each (B, M).
        """
        batch, n_models = models.shape[:2]
        model = project_models(self.model_in, models) + self.types.weight[_MODEL]  # (B, M, W)
        token = self.token_in(tokens) + self.types.weight[_TOKEN]  # (B, T, W)
        cls = (self.cls + self.types.weight[_CLS]).expand(batch, -1, -1)
        sequence = self.norm(torch.cat([cls, model, token], dim=1))  # (B, 1 + M + T, W)
        seen = self.attention_mask(n_models, token_mask).to(sequence.dtype)
        hidden = self.encoder(sequence, attention_mask=seen).last_hidden_state
        return self.heads(  # type: ignore[no-any-return]
            hidden[:, 1 : 1 + n_models], sequence[:, 1 : 1 + n_models], hidden[:, 0]
        )

    def attention_mask(self, n_models: int, token_mask: Tensor) -> Tensor:
        """(B, 1, 1 + M + T, 1 + M + T), 0 where a position (row) may attend to another (column), else very negative."""
        batch, n_tokens = token_mask.shape
        length = 1 + n_models + n_tokens
        seen = torch.ones(batch, length, length, dtype=torch.bool, device=token_mask.device)
        seen[:, :, 1 + n_models :] = token_mask[:, None, :]
        if not self.candidates_interact:
            seen[:, :, 1 : 1 + n_models] = torch.eye(length, dtype=torch.bool, device=seen.device)[:, 1 : 1 + n_models]
        return torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, -1e9).unsqueeze(1)
