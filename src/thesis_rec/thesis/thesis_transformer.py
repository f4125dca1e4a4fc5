"""The similarity transformer of the earlier thesis code, for those who have trained one.

Models and dataset tokens are projected to one width and read by a BERT encoder behind a CLS token. Two layouts were in
use: a classifier on the CLS position with one output per model, in the order of training, and heads that compare the
CLS position with each model's. The layout and all sizes but the number of attention heads are read from the state dict.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class ThesisTransformer(nn.Module):
    """The network of a state dict.

    Args:
        state: Tensors by name.
        n_heads: Attention heads, the one size that a state dict doesn't show.

    Raises:
        KeyError: If the state dict is of another network.
    """

    def __init__(self, state: Mapping[str, Tensor], n_heads: int) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        width, model_dim = state["model_proj.weight"].shape
        token_dim = state["dataset_proj.weight"].shape[1]
        layers = {name.split(".")[3] for name in state if name.startswith("transformer.encoder.layer.")}
        config = BertConfig(
            hidden_size=width,
            num_hidden_layers=len(layers),
            num_attention_heads=n_heads,
            intermediate_size=len(state["transformer.encoder.layer.0.intermediate.dense.bias"]),
            vocab_size=len(state["transformer.embeddings.word_embeddings.weight"]),
            type_vocab_size=len(state["transformer.embeddings.token_type_embeddings.weight"]),
            max_position_embeddings=len(state["transformer.embeddings.position_embeddings.weight"]),
        )
        self.n_outputs = len(state["classifier.2.bias"]) if "classifier.2.bias" in state else None
        self.model_dim, self.token_dim = int(model_dim), int(token_dim)
        self.transformer = BertModel(config)
        self.model_proj = nn.Linear(model_dim, width)
        self.dataset_proj = nn.Linear(token_dim, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        if self.n_outputs is not None:
            self.classifier = nn.Sequential(nn.LayerNorm(width), nn.Dropout(), nn.Linear(width, self.n_outputs))
        else:
            self.model_input_norm, self.dataset_input_norm = nn.LayerNorm(model_dim), nn.LayerNorm(token_dim)
            self.model_hidden_norm, self.dataset_hidden_norm = nn.LayerNorm(width), nn.LayerNorm(width)
            self.dataset_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
            self.model_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
            self.output_norm = nn.LayerNorm(width)
            self.log_temperature = nn.Parameter(torch.zeros(()))
        # Buffers of positions come and go with versions of the library; they hold no weights.
        self.load_state_dict(
            {name: tensor for name, tensor in state.items() if not name.endswith("_ids")}, strict=False
        )
        absent = set(dict(self.named_parameters())) - set(state)
        if absent:
            raise KeyError(sorted(absent)[0])
        self.eval()

    def forward(self, models: Tensor, tokens: Tensor) -> Tensor:
        """Score models for one dataset.

        Args:
            models: (M, E) embeddings of the models.
            tokens: (B, T, D) batches of tokens of the dataset.

        Returns:
            (M,) scores, the mean over batches.
        """
        normalise = nn.functional.normalize
        if self.n_outputs is None:
            models = normalise(self.model_input_norm(models), dim=-1)
            tokens = normalise(self.dataset_input_norm(tokens), dim=-1)
        model, token = self.model_proj(models), self.dataset_proj(tokens)
        if self.n_outputs is None:
            model, token = self.model_hidden_norm(model), self.dataset_hidden_norm(token)
        batches = len(tokens)
        sequence = torch.cat([self.cls_token.expand(batches, -1, -1), model.expand(batches, -1, -1), token], dim=1)
        output: Any = self.transformer(inputs_embeds=sequence)
        if self.n_outputs is not None:
            scores: Tensor = self.classifier(output.pooler_output)
            return scores.mean(0)
        hidden = output.last_hidden_state
        dataset = normalise(self.dataset_head(hidden[:, 0]), dim=-1)
        candidates = normalise(self.output_norm(self.model_head(hidden[:, 1 : 1 + len(models)])), dim=-1)
        similarity = torch.einsum("bw,bmw->bm", dataset, candidates)
        return (similarity / self.log_temperature.exp()).mean(0)
