"""The images of all base tasks on one device, and any model's features of them."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thesis_rec.base.errors import ItemError
from thesis_rec.base.tables import Floats, TaskImages
from thesis_rec.models.backbone import Backbone
from thesis_rec.truth.linear_probe import ClassRows, Rows

logger = logging.getLogger(__name__)

#: Pixels that are prepared at once, 200 MB as float32: networks for small images take large batches.
_FLOAT_PIXELS = 1 << 24


class ImageBank:
    """The images of all base tasks on one device, as uint8.

    Args:
        images: Base tasks by identifier. Images of one size are stored together; sizes may differ between tasks.
        device: Torch device. Images that don't fit into half of a GPU's free memory stay in the host's memory and
            are copied batch by batch.

    Attributes:
        classes: For each base task, the rows of each class's images in the feature matrix.
        n_images: Number of all images, N.
    """

    def __init__(self, images: Mapping[str, TaskImages], device: str = "cpu") -> None:
        self.device = device
        self.classes: dict[str, list[ClassRows]] = {}
        self.n_images = 0
        parts: list[tuple[NDArray[np.uint8], Rows]] = []
        for dataset_id, task in images.items():
            of_classes = []
            for pixels, labels in ((task.train_images, task.train_labels), (task.test_images, task.test_labels)):
                rows = np.arange(self.n_images, self.n_images + len(pixels))
                parts.append((pixels, rows))
                of_classes.append([rows[labels == c] for c in range(len(task.class_names))])
                self.n_images += len(pixels)
            self.classes[dataset_id] = [ClassRows(*rows) for rows in zip(*of_classes, strict=True)]
        size = sum(pixels.nbytes for pixels, _ in parts)
        resident = not device.startswith("cuda") or size < 0.5 * torch.cuda.mem_get_info(device)[0]
        self._groups: list[tuple[Tensor, Tensor]] = []
        for shape in dict.fromkeys(pixels.shape[1:3] for pixels, _ in parts):
            alike = [part for part in parts if part[0].shape[1:3] == shape]
            joined, where = (torch.from_numpy(np.concatenate(one)) for one in zip(*alike, strict=True))
            self._groups.append((joined.to(device) if resident else joined.pin_memory(), where.to(device)))

    @property
    def pixels(self) -> Tensor:
        """(N, H, W, 3) uint8 images on the device, in the rows that ``classes`` name.

        Raises:
            ValueError: If images differ in size.
        """
        if len(self._groups) > 1:
            sizes = sorted(tuple(pixels.shape[1:3]) for pixels, _ in self._groups)
            raise ValueError(f"images of one size are needed, but there are {sizes}")
        return self._groups[0][0].to(self.device)

    def features(self, backbone: Backbone, batch_size: int) -> tuple[Floats, Floats | None]:
        """A model's features of all images.

        Args:
            backbone: The model, on the bank's device.
            batch_size: Images in one forward pass, halved when memory runs out.

        Returns:
            (N, D) float32 features, and (N, Z) float32 probabilities of the source classes or None without a head.

        Raises:
            ItemError: If the features aren't vectors of finite numbers.
        """
        backbone.network.to(self.device).eval()
        prepare = backbone.preparation.on(self.device)
        parts: list[tuple[Tensor, Tensor | None, Tensor]] = []
        with torch.inference_mode(), _exact_float32():
            for pixels, rows in self._groups:
                start = 0
                most = max(1, _FLOAT_PIXELS // (pixels.shape[1] * pixels.shape[2]))
                while start < len(pixels):
                    batch = pixels[start : start + min(batch_size, most)].to(self.device, non_blocking=True)
                    try:
                        part, head = self._forward(backbone, prepare(batch.permute(0, 3, 1, 2).float()))
                    except torch.OutOfMemoryError:
                        if batch_size <= 16:
                            raise
                        batch_size //= 2
                        torch.cuda.empty_cache()
                        logger.info("%s: out of memory, batches of %d now", backbone.model_id, batch_size)
                        continue
                    parts.append((part, head, rows[start : start + len(batch)]))
                    start += len(batch)
        found, heads, where = zip(*parts, strict=True)
        order = torch.cat(where).argsort()
        features = torch.cat(found)[order].cpu().numpy()
        probabilities = None if heads[0] is None else torch.cat(heads)[order].cpu().numpy()
        if not np.isfinite(features).all():
            hint = "Check its weights, or leave it out."
            raise ItemError(backbone.model_id, "gives features that are not finite.", hint)
        return features, probabilities

    @staticmethod
    def _forward(backbone: Backbone, images: Tensor) -> tuple[Tensor, Tensor | None]:
        features = backbone.features(images)  # of (B, 3, S, S)
        if features.ndim != 2:
            text = f"gives features of shape {tuple(features.shape)}"
            raise ItemError(backbone.model_id, text, "instead of (images, width).")
        head = None if backbone.head is None else backbone.head(features).float().softmax(-1)
        return features.float(), head


@contextmanager
def _exact_float32() -> Iterator[None]:
    """No TF32: features must agree with those of a CPU to float32's precision."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
