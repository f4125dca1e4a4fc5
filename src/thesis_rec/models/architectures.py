"""Networks whose weights are published as bare state dicts and that no library builds.

The tensors of a checkpoint say how wide and how deep its network is. So none is built beforehand: a function computes
the features of images and looks up each layer's tensors by their names, and a checkpoint needs no configuration beside
it. A new architecture is such a function and an entry in :data:`ARCHITECTURES`.

- *CIFAR ResNet*: He et al., "Deep residual learning for image recognition", 2016, 4.2: three stages for images of 32
  pixels, shortcuts without weights ("option A"), 6n+2 layers.
- *Conv4*: the four convolutions of few-shot learning, Sung et al., "Learning to compare", 2018.
- *ESPNetv2*: Mehta et al., "ESPNetv2: a light-weight, power efficient, general purpose network", 2019. Blocks reduce
  the channels, look at the result with dilated depth-wise convolutions side by side, and join what these see.
- *DiCENet*: Mehta et al., "DiCENet: dimension-wise convolutions for efficient networks", 2021. A depth-wise convolution
  along each of the three dimensions of a feature map (channels, height, width), and a learned mixture of the three.

The last two end after the fourth level, as in segmentation networks, whose decoder is left out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from thesis_rec.models.backbone import IMAGENET_MEAN, IMAGENET_STD, Triple

State = Mapping[str, Tensor]


class StateNetwork(nn.Module):
    """A network made of a state dict and a function that computes with its tensors.

    Args:
        state: Tensors by name.
        compute: This network and (B, 3, H, W) images to (B, D) features.

    Attributes:
        names: Names of the tensors.
        used: Names of those that were looked up so far.
    """

    def __init__(self, state: State, compute: "Callable[[StateNetwork, Tensor], Tensor]") -> None:
        super().__init__()
        self._compute, self.names, self.used = compute, frozenset(state), set[str]()
        for name, tensor in state.items():
            # Torch allows no dots in the names of a module's own tensors.
            if name.endswith(("running_mean", "running_var")):
                self.register_buffer(name.replace(".", "/"), tensor)
            else:
                self.register_parameter(name.replace(".", "/"), nn.Parameter(tensor))

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images to (B, D) features."""
        return self._compute(self, images)

    def tensor(self, name: str) -> Tensor:
        """The tensor of a name.

        Raises:
            ValueError: If there is none.
        """
        if name not in self.names:
            raise ValueError(f"there is no {name}")
        self.used.add(name)
        return getattr(self, name.replace(".", "/"))

    def count(self, name: str) -> int:
        """Number of numbered parts below a name."""
        prefix = f"{name}."
        return len({one.removeprefix(prefix).split(".")[0] for one in self.names if one.startswith(prefix)})

    def conv(self, name: str, x: Tensor, stride: int = 1, padding: int | None = None, dilation: int = 1) -> Tensor:
        """A convolution, which by default keeps the size; the groups are those that the numbers of channels ask for."""
        weight = self.tensor(f"{name}.weight")
        bias = self.tensor(f"{name}.bias") if f"{name}.bias" in self.names else None
        padding = dilation * (weight.shape[-1] // 2) if padding is None else padding
        return functional.conv2d(x, weight, bias, stride, padding, dilation, x.shape[1] // weight.shape[1])

    def norm(self, name: str, x: Tensor) -> Tensor:
        """Batch normalisation."""
        running = self.tensor(f"{name}.running_mean"), self.tensor(f"{name}.running_var")
        learned = self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias")
        return functional.batch_norm(x, *running, *learned, training=self.training)

    def prelu(self, name: str, x: Tensor) -> Tensor:
        """A rectifier with learned slopes."""
        return functional.prelu(x, self.tensor(f"{name}.weight"))

    def linear(self, name: str, x: Tensor) -> Tensor:
        """A linear layer."""
        return functional.linear(x, self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias"))

    def unit(self, name: str, x: Tensor, parts: Sequence[str], stride: int = 1) -> Tensor:
        """A convolution and a normalisation, and a rectifier if there is one; ``parts`` are their names below."""
        convolution, norm, act = (f"{name}.{part}" for part in parts)
        x = self.norm(norm, self.conv(convolution, x, stride))
        return self.prelu(act, x) if f"{act}.weight" in self.names else x


# --- CIFAR ResNet ------------------------------------------------------------------------------------------------


def _cifar_resnet(net: StateNetwork, x: Tensor) -> Tensor:
    x = torch.relu(net.norm("bn1", net.conv("conv1", x)))
    for stage in ("layer1", "layer2", "layer3"):
        for block in range(net.count(stage)):
            name, stride = f"{stage}.{block}", 2 if stage != "layer1" and block == 0 else 1
            y = torch.relu(net.norm(f"{name}.bn1", net.conv(f"{name}.conv1", x, stride)))
            y = net.norm(f"{name}.bn2", net.conv(f"{name}.conv2", y))
            if stride > 1:
                # Every other pixel, and channels of zeros on both sides.
                beside = (y.shape[1] - x.shape[1]) // 2
                x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, beside, beside))
            x = torch.relu(x + y)
    return x.mean((2, 3))


# --- Conv4 -------------------------------------------------------------------------------------------------------


def _conv4(net: StateNetwork, x: Tensor) -> Tensor:
    """Two blocks with max-pooling and two without; a network of one channel sees the mean of the colours."""
    if net.tensor("layer1.0.weight").shape[1] == 1:
        x = x.mean(1, keepdim=True)
    for layer in (1, 2, 3, 4):
        x = torch.relu(net.norm(f"layer{layer}.1", net.conv(f"layer{layer}.0", x, padding=int(layer > 2))))
        x = functional.max_pool2d(x, 2) if layer <= 2 else x
    return x.mean((2, 3))


def _conv4_size(state: State) -> int:
    """Grey networks were trained on Omniglot at 28 pixels, the others on mini-ImageNet at 84."""
    return 28 if state["layer1.0.weight"].shape[1] == 1 else 84


# --- ESPNetv2 ----------------------------------------------------------------------------------------------------

_ESP = ("conv", "bn", "act")
_BRANCHES = 4
#: Largest dilation of the down-sampling block and of the other blocks of each level.
_DILATIONS = {2: (6, 0), 3: (5, 4), 4: (4, 3)}


def _espnetv2(net: StateNetwork, images: Tensor) -> Tensor:
    x = net.unit("level1", images, _ESP, stride=2)
    for level, (first, others) in _DILATIONS.items():
        x = _esp_down(net, f"level{level}_0", x, images, first)
        for block in range(net.count(f"level{level}")):
            x = _esp_block(net, f"level{level}.{block}", x, others)
    return x.mean((2, 3))


def _esp_block(net: StateNetwork, name: str, x: Tensor, largest: int, stride: int = 1) -> Tensor:
    """Reduce, split into dilated branches, fuse, merge."""
    reduced = net.unit(f"{name}.proj_1x1", x, _ESP)
    # Branches see 3, 5, 7 ... pixels; those beyond the level's limit fall back to 3.
    dilations = sorted(d if d <= largest else 1 for d in range(1, _BRANCHES + 1))
    seen: list[Tensor] = []
    for branch, dilation in enumerate(dilations):
        # Hierarchical fusion: each branch is added to the sum of the smaller ones, against gridding.
        found = net.conv(f"{name}.spp_dw.{branch}.conv", reduced, stride, dilation=dilation)
        seen.append(found + seen[-1] if seen else found)
    fused = net.prelu(f"{name}.br_after_cat.act", net.norm(f"{name}.br_after_cat.bn", torch.cat(seen, 1)))
    merged = net.unit(f"{name}.conv_1x1_exp", fused, _ESP)
    slopes = net.tensor(f"{name}.module_act.weight")
    if stride > 1:
        # The block that down-samples adds the pooled input and activates the sum itself: these are of no use.
        return merged
    return functional.prelu(merged + x if merged.shape == x.shape else merged, slopes)


def _esp_down(net: StateNetwork, name: str, x: Tensor, image: Tensor, largest: int) -> Tensor:
    """Half the side: a strided block beside average pooling, with the image itself mixed in."""
    pooled = functional.avg_pool2d(x, 3, 2, 1)
    joined = torch.cat([pooled, _esp_block(net, f"{name}.eesp", x, largest, stride=2)], 1)
    while image.shape[2] > pooled.shape[2]:
        image = functional.avg_pool2d(image, 3, 2, 1)
    image = net.unit(f"{name}.inp_reinf.1", net.unit(f"{name}.inp_reinf.0", image, _ESP), _ESP)
    return net.prelu(f"{name}.act", joined + image)


# --- DiCENet -----------------------------------------------------------------------------------------------------

_DICE = ("cbr.0", "cbr.1", "cbr.2")


def _dicenet(net: StateNetwork, x: Tensor) -> Tensor:
    x = functional.max_pool2d(net.unit("level1", x, _DICE, stride=2), 3, 2, 1)
    for level in (3, 4):
        x = _dice_down(net, f"level{level}.0", x)
        for block in range(1, net.count(f"level{level}")):
            # Half of the channels pass, the other half is transformed.
            name, kept = f"level{level}.{block}.layer_right", round(0.5 * x.shape[1])
            other = _dimension_wise(net, f"{name}.1", net.unit(f"{name}.0", x[:, kept:], _DICE))
            x = _shuffle(torch.cat([x[:, :kept], other], 1), 2)
    return x.mean((2, 3))


def _dice_down(net: StateNetwork, name: str, x: Tensor) -> Tensor:
    """Half the side, twice the channels."""
    left = net.unit(f"{name}.left_layer.1", net.unit(f"{name}.left_layer.0", x, _DICE, stride=2), _DICE)
    right = _dimension_wise(net, f"{name}.right_layer.1", functional.avg_pool2d(x, 3, 2, 1))
    return _shuffle(torch.cat([left, net.unit(f"{name}.right_layer.2", right, _DICE)], 1), 2)


def _dimension_wise(net: StateNetwork, name: str, x: Tensor) -> Tensor:
    """Filters along channels, height and width, mixed channel by channel and gated by the whole map."""
    along = [net.conv(f"{name}.conv_channel", x)]
    along += [_along(net, f"{name}.conv_{side}", x, axis) for side, axis in (("height", 2), ("width", 3))]
    active = net.prelu(f"{name}.br_act.br.1", net.norm(f"{name}.br_act.br.0", torch.cat(along, 1)))
    mixed = net.unit(f"{name}.weight_avg_layer", _shuffle(active, 3), _DICE)
    gate = torch.relu(net.conv(f"{name}.linear_comb_layer.1", functional.adaptive_avg_pool2d(mixed, 1)))
    gate = torch.sigmoid(net.conv(f"{name}.linear_comb_layer.3", gate))
    return net.unit(f"{name}.proj_layer", mixed, _DICE) * gate


def _along(net: StateNetwork, name: str, x: Tensor, axis: int) -> Tensor:
    # The filters belong to fixed places along the axis, so the map is brought to their number and back.
    size, places = (x.shape[2], x.shape[3]), len(net.tensor(f"{name}.weight"))
    wanted = (places, size[1]) if axis == 2 else (size[0], places)
    return _resized(net.conv(name, _resized(x, wanted).transpose(1, axis)).transpose(1, axis), size)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(x.shape[2:]) == size:
        return x
    if size[0] >= x.shape[2] and size[1] >= x.shape[3]:
        return functional.interpolate(x, size, mode="bilinear", align_corners=True)
    return functional.adaptive_avg_pool2d(x, size)


def _shuffle(x: Tensor, groups: int) -> Tensor:
    """Channels of ``groups`` groups in turn."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


@dataclass(frozen=True)
class Architecture:
    """How a state dict becomes a network.

    Attributes:
        compute: The network and images to features.
        input_size: Side of the images that it is given, in pixels, from the state dict.
        head: Name of the linear layer that classifies, if there is one.
        prefix: What stands before the names of the tensors that count; the others are left out.
        mean: Mean of each colour channel that it was trained with.
        std: What each channel was divided by.
    """

    compute: Callable[[StateNetwork, Tensor], Tensor]
    input_size: Callable[[State], int]
    head: str = ""
    prefix: str = ""
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD


#: By the manifest's ``loader`` column.
ARCHITECTURES: dict[str, Architecture] = {
    "cifar_resnet": Architecture(_cifar_resnet, lambda state: 32, head="linear"),
    # The statistics of Omniglot, which the authors used for mini-ImageNet too.
    "conv4": Architecture(_conv4, _conv4_size, mean=(0.92206,) * 3, std=(0.08426,) * 3),
    # Trained on crops of 256 pixels with several objects each; an image of one object fills a part of that.
    "espnetv2": Architecture(_espnetv2, lambda state: 128, prefix="base_net."),
    "dicenet": Architecture(_dicenet, lambda state: 128, prefix="base_net."),
}
