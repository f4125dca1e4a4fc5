"""A BERT encoder that reads candidate models and dataset tokens as one sequence, and heads that score what it reads."""

import torch
from torch import Tensor, nn

_CLS, _MODEL, _TOKEN = 0, 1, 2
MIN_LOG_STD, MAX_LOG_STD = -6.0, 1.0


class RankingHeads(nn.Module):
    r"""From a representation of every (model, dataset) pair to a score, a value and a log standard deviation.

    The score is what the pair shows plus a bilinear interaction,
    :math:`s_{md} = f(h_{md}) + \langle a_m, b_d \rangle / \sqrt r`; with f and b at zero, as they start, all models
    are alike. The value is an affine function of the score with the dataset's own level and spread, plus a small
    correction.

    Args:
        width: Width of the representations.
        rank: Rank of the bilinear interaction.
        dropout: Probability of dropping a unit of the pair's representation.
    """

    def __init__(self, width: int, rank: int = 16, dropout: float = 0.0) -> None:
        super().__init__()
        self.rank = rank
        self.pair = nn.Sequential(nn.LayerNorm(width), nn.Dropout(dropout))
        self.per_pair = nn.Linear(width, 3)  # interaction, correction of the value, log std
        self.of_model = nn.Linear(width, rank)
        self.of_task = nn.Linear(width, rank)
        self.per_task = nn.Linear(width, 3)  # level, spread, log std
        for zeroed in (self.per_pair, self.of_task):
            nn.init.zeros_(zeroed.weight)
            nn.init.zeros_(zeroed.bias)
        nn.init.zeros_(self.per_task.weight)
        # Before training: level 0.5, spread about 0.1, standard deviation about 0.1.
        self.per_task.bias.data.copy_(torch.tensor([0.5, -2.25, -2.3]))

    def forward(self, pair: Tensor, model: Tensor, task: Tensor) -> dict[str, Tensor]:
        """Heads of a batch.

        Args:
            pair: (B, M, W) representation of each model as it sees the dataset.
            model: (B, M, W) representation of each model alone.
            task: (B, W) representation of the dataset.

        Returns:
            ``score``, ``value`` and ``log_std``, each (B, M).
        """
        interaction, correction, log_std = self.per_pair(self.pair(pair)).unbind(-1)
        bilinear = torch.einsum("bmr,br->bm", self.of_model(model), self.of_task(task)) / self.rank**0.5
        score = interaction + bilinear
        level, spread, task_log_std = self.per_task(task).unsqueeze(1).unbind(-1)  # each (B, 1)
        value = level + nn.functional.softplus(spread) * (score + correction)
        return {"score": score, "value": value, "log_std": (log_std + task_log_std).clamp(MIN_LOG_STD, MAX_LOG_STD)}


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
            models: (M, E) features of the candidates, the same for all datasets.
            tokens: (B, T, D) tokens of the datasets.
            token_mask: (B, T) True where a token is valid.

        Returns:
            ``score``, ``value`` and ``log_std``, each (B, M).
        """
        batch, n_models = len(tokens), len(models)
        model = (self.model_in(models) + self.types.weight[_MODEL]).expand(batch, -1, -1)  # (B, M, W)
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
