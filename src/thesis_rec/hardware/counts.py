"""What of a forward pass can be counted without a clock: parameters, operations and memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from thesis_rec.models.backbone import Backbone

#: Torch's names of the precisions.
PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}

#: Bytes of a MiB.
MIB = float(1 << 20)


@dataclass(frozen=True)
class Description:
    """What can be counted without a clock, for one image.

    Attributes:
        n_parameters: Number of weights; shared ones count once.
        macs: Multiply-accumulate operations of matrix products, convolutions and attention.
        activation_mb: All intermediate results of the pass in MiB (fp32): the memory traffic that latency follows.
        peak_activation_mb: Most MiB of intermediate results alive at one time.
        n_operations: Number of tensor operations, each of them a kernel launch on a GPU.
        weight_mb: Parameters and buffers in MiB.
        activations: Numbers that convolutions and matrix products with weights give.
        depthwise_macs: Of the multiply-accumulates, those of grouped convolutions, which run far from a device's peak.
        attention_macs: Of the multiply-accumulates, those between activations.
        n_layers: Number of convolutions, matrix products and attentions.
    """

    n_parameters: int
    macs: int
    activation_mb: float
    peak_activation_mb: float
    n_operations: int
    weight_mb: float
    activations: int = 0
    depthwise_macs: int = 0
    attention_macs: int = 0
    n_layers: int = 0


def describe_backbone(backbone: Backbone, device: str = "cpu") -> Description:
    """Count parameters, multiply-accumulates, activations and operations in one pass of one image.

    Args:
        backbone: The model, on ``device``.
        device: Torch device.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    weights = list(backbone.network.parameters())
    trainable = [weight for weight in weights if weight.requires_grad]
    images = random_images(backbone, 1, device, "fp32")
    counter = FlopCounterMode(display=False)
    # The counter hooks itself into gradients where weights ask for them, and fails on views of weights without.
    for weight in trainable:
        weight.requires_grad_(False)
    try:
        with torch.no_grad(), _memory_tracker() as tracker, counter:
            backbone.features(images)
    finally:
        for weight in trainable:
            weight.requires_grad_(True)
    buffers = list(backbone.network.buffers())
    return Description(
        n_parameters=sum(p.numel() for p in weights),
        macs=counter.get_total_flops() // 2,
        activation_mb=tracker.total / MIB,
        peak_activation_mb=tracker.peak / MIB,
        n_operations=tracker.operations,
        weight_mb=sum(t.numel() * t.element_size() for t in [*weights, *buffers]) / MIB,
        activations=tracker.activations,
        depthwise_macs=tracker.grouped_macs,
        attention_macs=sum(n for op, n in counter.get_flop_counts()["Global"].items() if _between(op)) // 2,
        n_layers=tracker.layers,
    )


def _between(operation: Any) -> bool:
    """Whether a counted operation multiplies activations with activations."""
    return any(word in str(operation) for word in ("bmm", "attention"))


def random_images(backbone: Backbone, batch_size: int, device: str, precision: str) -> Tensor:
    """Normalised images of noise, the same at each call.

    Args:
        backbone: Decides height and width.
        batch_size: Number of images, B.
        device: Torch device.
        precision: One of :data:`PRECISIONS`.

    Returns:
        (B, 3, H, W).
    """
    import torch

    shape = (batch_size, 3, backbone.input_size, backbone.input_size)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).to(device=device, dtype=getattr(torch, PRECISIONS[precision]))


def peak_activations(backbone: Backbone, images: Tensor) -> float:
    """Peak of intermediate results in MiB, by following every tensor of one pass."""
    with _memory_tracker() as tracker:
        backbone.features(images)
    return tracker.peak / MIB


class _Tracker:
    """Bytes of new storage that operations made: ``total`` of all, ``peak`` alive at one time; and what layers give."""

    def __init__(self) -> None:
        self.total = self.peak = self.alive = self.operations = 0
        self.activations = self.grouped_macs = self.layers = 0
        self.mode: AbstractContextManager[Any] = nullcontext()

    def see(self, name: str, args: Any, result: Any) -> None:
        """Count an operation that is a layer: a convolution, a matrix product or an attention."""
        weighted = name in ("convolution", "addmm", "mm")
        if not weighted and "bmm" not in name and "attention" not in name:
            return
        self.layers += 1
        if weighted:
            self.activations += result.numel()
        if name == "convolution" and args[8] > 1:
            # (out, in per group, height, width): each result takes one product per weight of its filter.
            self.grouped_macs += result.numel() * args[1][0].numel()


@contextmanager
def _memory_tracker() -> Iterator[_Tracker]:
    import weakref

    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_iter

    tracker = _Tracker()
    known: weakref.WeakKeyDictionary[torch.UntypedStorage, int] = weakref.WeakKeyDictionary()

    def released(size: int) -> None:
        tracker.alive -= size

    class _Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            import torch

            result = func(*args, **(kwargs or {}))
            tracker.see(func._schema.name.rpartition("::")[2], args, result)
            new = False
            given = {t.untyped_storage()._cdata for t in tree_iter((args, kwargs)) if isinstance(t, torch.Tensor)}
            for tensor in tree_iter(result):
                if not isinstance(tensor, torch.Tensor):
                    continue
                storage = tensor.untyped_storage()
                # Views and in-place operations share their input's storage: no new memory, often no kernel.
                size = storage.nbytes()
                if not size or storage._cdata in given or storage in known:
                    continue
                new = True
                known[storage] = size
                weakref.finalize(storage, released, size)
                tracker.total += size
                tracker.alive += size
                tracker.peak = max(tracker.peak, tracker.alive)
            tracker.operations += new
            return result

    with _Mode():
        yield tracker
