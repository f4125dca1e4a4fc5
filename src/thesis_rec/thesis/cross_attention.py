"""A ranker whose cost grows linearly with the number of candidate models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from thesis_rec.thesis.heads import RankingHeads, masked_mean, project_models


class CrossAttentionRanker(nn.Module):
    """Each model's embedding queries the tokens of the dataset; models don't see each other.

    Multi-head attention after Vaswani et al., "Attention Is All You Need", 2017, pre-norm, without any positional
    encoding: the result doesn't depend on the order of tokens, nor on which other models are candidates.

    Args:
        model_dim: Width E of the models' features.
        token_dim: Width D of the dataset tokens.
        width: Common width of all representations.
        n_layers: Number of cross-attention layers.
        n_heads: Number of attention heads.
        token_layers: Number of self-attention layers over the dataset tokens before models query them.
        rank: Rank of the bilinear interaction in the heads.
        dropout: Dropout probability.
    """

    def __init__(
        self,
        model_dim: int,
        token_dim: int,
        width: int = 96,
        n_layers: int = 2,
        n_heads: int = 4,
        token_layers: int = 1,
        rank: int = 16,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.model_in = nn.Sequential(nn.Dropout(dropout), nn.Linear(model_dim, width), nn.LayerNorm(width))
        self.token_in = nn.Sequential(nn.Dropout(dropout), nn.Linear(token_dim, width), nn.LayerNorm(width))
        self.token_layers = nn.ModuleList(_Block(width, n_heads, dropout) for _ in range(token_layers))
        self.layers = nn.ModuleList(_Block(width, n_heads, dropout) for _ in range(n_layers))
        self.heads = RankingHeads(width, rank, dropout)

    def encode_tokens(self, tokens: Tensor, token_mask: Tensor) -> Tensor:
        """(B, T, D) tokens to their (B, T, W) representations, which all models then query."""
        tokens = self.token_in(tokens)
        for layer in self.token_layers:
            tokens = layer(tokens, tokens, token_mask)
        return tokens

    def score_models(
        self, models: Tensor, tokens: Tensor, token_mask: Tensor, prior: Tensor | None
    ) -> dict[str, Tensor]:
        """Heads for (B, M, E) models, given the tokens' (B, T, W) representations."""
        model = project_models(self.model_in, models)  # (B, M, W)
        pair = model
        for layer in self.layers:
            pair = layer(pair, tokens, token_mask)
        return self.heads(pair, model, masked_mean(tokens, token_mask), prior)  # type: ignore[no-any-return]

    def forward(
        self, models: Tensor, tokens: Tensor, token_mask: Tensor, prior: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Score models for datasets.

        Args:
            models: (B, M, E) features of the candidates.
            tokens: (B, T, D) tokens of the datasets.
            token_mask: (B, T) True where a token is valid.
            prior: (B, M) static prior, or None.

        Returns:
            ``score``, ``value`` and ``log_std``, each (B, M).
        """
        return self.score_models(models, self.encode_tokens(tokens, token_mask), token_mask, prior)

    @torch.inference_mode()
    def score_chunks(
        self, models: Any, tokens: Tensor, token_mask: Tensor, prior: Any = None, chunk: int = 4096
    ) -> Iterator[dict[str, Tensor]]:
        """Score any number of models for one dataset, chunk by chunk, in constant memory.

        Args:
            models: (M, E) tensor or array; a memory-mapped array is read chunk by chunk.
            tokens: (1, T, D) tokens of the dataset.
            token_mask: (1, T) True where a token is valid.
            prior: (M,) tensor or array, or None.
            chunk: Models per step; a few thousand fit into a processor's cache.

        Yields:
            ``score``, ``value`` and ``log_std`` of each chunk, (chunk,).
        """
        encoded = self.encode_tokens(tokens, token_mask)
        for start in range(0, len(models), chunk):
            part = _like(tokens, models[start : start + chunk])
            some = None if prior is None else _like(tokens, prior[start : start + chunk])
            out = self.score_models(part[None], encoded, token_mask, None if some is None else some[None])
            yield {name: value[0] for name, value in out.items()}

    @torch.inference_mode()
    def top_k(
        self, models: Any, tokens: Tensor, token_mask: Tensor, prior: Any = None, k: int = 10, chunk: int = 4096
    ) -> tuple[Tensor, Tensor]:
        """The k best models, exactly, in memory that doesn't grow with their number.

        Args:
            models: (M, E) tensor or array.
            tokens: (1, T, D) tokens of the dataset.
            token_mask: (1, T) True where a token is valid.
            prior: (M,) tensor or array, or None.
            k: How many; all models when there are fewer.
            chunk: Models per step.

        Returns:
            Scores (k,) in descending order and the models' row numbers (k,); equal scores in the order of rows.
        """
        best_score = torch.empty(0, dtype=tokens.dtype, device=tokens.device)
        best_row = torch.empty(0, dtype=torch.int64, device=tokens.device)
        start = 0
        for out in self.score_chunks(models, tokens, token_mask, prior, chunk):
            score = out["score"]
            row = torch.arange(start, start + len(score), device=score.device)
            start += len(score)
            if len(best_score) == k:
                # Only what beats the k-th best so far needs sorting, which after some chunks is next to nothing.
                keep = score > best_score[-1]
                score, row = score[keep], row[keep]
            merged, rows = torch.cat([best_score, score]), torch.cat([best_row, row])
            order = merged.argsort(descending=True, stable=True)[:k]
            best_score, best_row = merged[order], rows[order]
        return best_score, best_row


def _like(tokens: Tensor, rows: Any) -> Tensor:
    """``rows`` as a tensor of the tokens' type and device; copied, because mapped files can't be written to."""
    if isinstance(rows, Tensor):
        return rows.to(tokens)
    return torch.from_numpy(np.array(rows)).to(tokens)


class _Block(nn.Module):
    """Pre-norm attention of ``queries`` over ``keys``, then a feed-forward layer, both with a residual connection."""

    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm_query = nn.LayerNorm(width)
        self.norm_key = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, keys: Tensor, key_mask: Tensor) -> Tensor:
        """(B, M, W) queries over (B, T, W) keys, valid where (B, T) ``key_mask`` is True."""
        query = self._split(self.query(self.norm_query(queries)))  # (B, H, M, W/H)
        key, value = (self._split(part) for part in self.key_value(self.norm_key(keys)).chunk(2, dim=-1))
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=key_mask[:, None, None, :])
        queries = queries + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        fed: Tensor = queries + self.dropout(self.feed(queries))
        return fed

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
