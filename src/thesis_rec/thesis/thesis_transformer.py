"""The similarity transformer of the earlier thesis code, for those who have trained one.

Models and dataset tokens are projected to one width and read by a BERT encoder behind a CLS token. Two layouts were in
use: a classifier on the CLS position with one output per model, in the order of training, and heads that compare the
CLS position with each model's. The layout and all sizes but the number of attention heads are read from the state dict.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional


class ThesisTransformer:
    """The network of a state dict, whose tensors are used by their names there.

    Args:
        state: Tensors by name.
        n_heads: Attention heads, the one size that a state dict doesn't show.

    Raises:
        KeyError: If the state dict is of another network.
        RuntimeError: If its tensors don't fit each other.
    """

    def __init__(self, state: Mapping[str, Tensor], n_heads: int) -> None:
        from transformers import BertConfig, BertModel

        self.state = {name: tensor.float() for name, tensor in state.items()}
        # Buffers of positions come and go with versions of the library; they hold no weights.
        named = (name.partition("transformer.") for name in state if not name.endswith("_ids"))
        bert = {name: state[before + part + name] for before, part, name in named if part}
        width, self.model_dim = map(int, state["model_proj.weight"].shape)
        self.token_dim = int(state["dataset_proj.weight"].shape[1])
        self.n_outputs = len(state["classifier.2.bias"]) if "classifier.2.bias" in state else None
        config = BertConfig(
            hidden_size=width,
            num_hidden_layers=len({name.split(".")[2] for name in bert if name.startswith("encoder.layer.")}),
            num_attention_heads=n_heads,
            intermediate_size=len(bert["encoder.layer.0.intermediate.dense.bias"]),
            vocab_size=len(bert["embeddings.word_embeddings.weight"]),
            type_vocab_size=len(bert["embeddings.token_type_embeddings.weight"]),
            max_position_embeddings=len(bert["embeddings.position_embeddings.weight"]),
        )
        self.transformer = BertModel(config).eval()
        self.transformer.load_state_dict(bert, strict=False)
        if absent := [name for name, _ in self.transformer.named_parameters() if name not in bert]:
            raise KeyError(absent[0])
        # Whatever else the state dict lacks is missed at once.
        self(torch.zeros(1, self.model_dim), torch.zeros(1, 1, self.token_dim))

    @torch.inference_mode()
    def __call__(self, models: Tensor, tokens: Tensor) -> Tensor:
        """Score models for one dataset.

        Args:
            models: (M, E) embeddings of the models.
            tokens: (B, T, D) batches of tokens of the dataset.

        Returns:
            (M,) scores, the mean over batches.
        """
        unit = functional.normalize
        if self.n_outputs is None:
            models = unit(self._norm("model_input_norm", models), dim=-1)
            tokens = unit(self._norm("dataset_input_norm", tokens), dim=-1)
        model, token = self._linear("model_proj", models), self._linear("dataset_proj", tokens)
        if self.n_outputs is None:
            model, token = self._norm("model_hidden_norm", model), self._norm("dataset_hidden_norm", token)
        start, among = (part.expand(len(tokens), -1, -1) for part in (self.state["cls_token"], model))
        output = self.transformer(inputs_embeds=torch.cat([start, among, token], dim=1))
        if self.n_outputs is not None:
            return self._linear("classifier.2", self._norm("classifier.0", output.pooler_output)).mean(0)
        hidden = output.last_hidden_state
        dataset = unit(self._head("dataset_head", hidden[:, 0]), dim=-1)
        head = self._head("model_head", hidden[:, 1 : 1 + len(models)])
        candidates = unit(self._norm("output_norm", head), dim=-1)
        similarity = torch.einsum("bw,bmw->bm", dataset, candidates)
        return (similarity / self.state["log_temperature"].exp()).mean(0)

    def _linear(self, name: str, rows: Tensor) -> Tensor:
        return functional.linear(rows, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def _norm(self, name: str, rows: Tensor) -> Tensor:
        return functional.layer_norm(rows, rows.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def _head(self, name: str, rows: Tensor) -> Tensor:
        return self._linear(f"{name}.1", self._norm(f"{name}.0", rows))
