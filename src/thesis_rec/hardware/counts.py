"""What of a forward pass can be counted without a clock: parameters, operations and memory."""

from __future__ import annotations

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
        n_operations: Number of tensor operations, each of them a kernel launch on a GPU.
        activations: Numbers that convolutions and matrix products with weights give.
    """

    n_parameters: int
    macs: int
    activation_mb: float
    n_operations: int
    activations: int


def describe_backbone(backbone: Backbone, device: str = "cpu") -> Description:
    """Count parameters, multiply-accumulates, activations and operations in one pass of one image.

    Args:
        backbone: The model, on ``device``; its weights want no gradients afterwards.
        device: Torch device.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    images = random_images(backbone, 1, device, "fp32")
    counter = FlopCounterMode(display=False)
    # The counter hooks itself into gradients where weights ask for them, and fails on views of weights without.
    backbone.network.requires_grad_(False)
    with torch.no_grad(), _memory_tracker() as tracker, counter:
        backbone.features(images)
    return Description(
        n_parameters=sum(weight.numel() for weight in backbone.network.parameters()),
        macs=counter.get_total_flops() // 2,
        activation_mb=tracker.total / MIB,
        n_operations=tracker.operations,
        activations=tracker.activations,
    )


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
    return float(tracker.peak / MIB)


def _memory_tracker() -> Any:
    """Counts operations, their ``total`` bytes of new storage and the ``peak`` alive at one time, and what layers give.

    Returns:
        A context whose attributes have the counts.
    """
    import weakref

    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_iter

    known: weakref.WeakKeyDictionary[torch.UntypedStorage, int] = weakref.WeakKeyDictionary()

    class _Tracker(TorchDispatchMode):
        total = peak = alive = operations = activations = 0

        def released(self, size: int) -> None:
            self.alive -= size

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if func._schema.name in ("aten::convolution", "aten::addmm", "aten::mm"):
                self.activations += result.numel()
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
                weakref.finalize(storage, self.released, size)
                self.total += size
                self.alive += size
                self.peak = max(self.peak, self.alive)
            self.operations += new
            return result

    return _Tracker()
