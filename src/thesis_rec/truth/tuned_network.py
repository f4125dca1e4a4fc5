"""The network that fine-tuning trains: a pre-trained model with a new linear head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from thesis_rec.models.backbone import Backbone


class TunedNetwork(nn.Module):
    """A backbone with a new linear head; the head's input is scaled, which is a higher learning rate for it.

    Args:
        backbone: The model.
        n_classes: Outputs of the head.
        head_rate: How many times faster the head learns.
    """

    def __init__(self, backbone: Backbone, n_classes: int, head_rate: float) -> None:
        super().__init__()
        self.network = backbone.network
        self._features = backbone.features
        # Batch norm without parameters: features of all models come in one scale, as the linear probe has them.
        self.norm = nn.BatchNorm1d(backbone.n_features, affine=False)
        self.head = nn.Linear(backbone.n_features, n_classes)
        self.scale = head_rate * backbone.n_features**-0.5
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, C)`` of normalised images ``(B, 3, H, W)``."""
        logits: Tensor = self.head(self.norm(self._features(images)) * self.scale)
        return logits


def _head_names(backbone: Backbone) -> set[str]:
    """State entries of the source head, which features don't use; their shapes differ between sources."""
    if not isinstance(backbone.head, nn.Module):
        return set()
    own = {tensor.data_ptr() for tensor in backbone.head.state_dict().values()}
    return {key for key, value in backbone.network.state_dict().items() if value.data_ptr() in own}


def feature_weights(backbone: Backbone) -> dict[str, Tensor]:
    """State entries that features use, by name: all but those of the source head."""
    skipped = _head_names(backbone)
    return {key: value for key, value in backbone.network.state_dict().items() if key not in skipped}


def shape_key(backbone: Backbone) -> object:
    """What two models must share so that one's captured steps serve the other."""
    shapes = tuple((key, tuple(value.shape)) for key, value in feature_weights(backbone).items())
    return type(backbone.network), shapes, backbone.n_features, backbone.input_size, backbone.mean, backbone.std
