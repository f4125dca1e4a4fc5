"""The embedded zoo's image encoder: a small CLIP trained on the known tasks' images with class-name captions.

Contrastive language-image pre-training (Radford et al. 2021) with open_clip's model and loss. Every batch holds each
caption at most once, so that no pair counted as wrong is right. Families that are kept unknown are never seen.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thesis_rec.starter.architectures import MEAN, STD, clip_arguments
from thesis_rec.starter.modules import caption_tokenizer, clip_configuration, new_clip, tokenize, tokenizer_files
from thesis_rec.starter.pretraining import BRIGHTNESS, CONTRAST, SHIFT, Bank, normalise, shifted, toned
from thesis_rec.starter.step_runner import Optimisation, StepRunner, prepare_device

if TYPE_CHECKING:
    from thesis_rec.base.tables import TaskImages

logger = logging.getLogger(__name__)

#: Ways to say what an image shows; ``{name}`` is the class, ``{family}`` and ``{style}`` describe the task.
TEMPLATES = (
    "{name}, {family}, {style}",
    "a {style} picture of {name} ({family})",
    "{family}: {name}, {style}",
    "an image from {family} that shows {name}, {style}",
)


@dataclass(frozen=True)
class ClipSettings:
    """Size and training of the encoder.

    Attributes:
        embed_dim: Width of the common space.
        width: Width of the image transformer.
        layers: Its depth.
        patch: Side of its patches in pixels.
        text_width: Width of the text transformer.
        text_layers: Its depth.
        vocabulary: Number of text tokens.
        context: Longest caption in tokens.
        steps: Updates.
        batch: Image-caption pairs of an update.
        learning_rate: Peak learning rate.
        weight_decay: AdamW's.
        images_per_class: Training images of each class.
        seed: Of weights, batches and augmentation.
    """

    embed_dim: int = 128
    width: int = 128
    layers: int = 6
    patch: int = 4
    text_width: int = 64
    text_layers: int = 2
    vocabulary: int = 1024
    context: int = 40
    steps: int = 6000
    batch: int = 1024
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    images_per_class: int = 150
    seed: int = 0

    def arguments(self) -> dict[str, Any]:
        """open_clip's constructor arguments, without what the tokenizer adds."""
        text = self.context, self.text_width, max(1, self.text_width // 32), self.text_layers
        sizes = self.width, self.layers, self.embed_dim
        head_width = min(32, self.width)
        return clip_arguments(*sizes, patch=self.patch, head_width=head_width, mlp_ratio=3.0, text=text)


@dataclass(frozen=True)
class Caption:
    """What is said about the images of one class of one task."""

    task: str
    class_index: int
    name: str
    family: str
    style: str

    def texts(self) -> list[str]:
        """The caption in every template."""
        words = {"name": self.name, "family": self.family.replace("_", " "), "style": self.style.replace("_", " ")}
        return [template.format(**words) for template in TEMPLATES]


def captions_of(tasks: Sequence[str]) -> list[Caption]:
    """Captions of all classes of base tasks."""
    from thesis_rec.tasks import BASE_TASKS

    return [
        Caption(task, i, name, BASE_TASKS[task].family, BASE_TASKS[task].style)
        for task in tasks
        for i, name in enumerate(BASE_TASKS[task].class_names)
    ]


def pair_batches(
    captions: Sequence[Caption],
    members: Sequence[NDArray[np.int64]],
    steps: int,
    batch: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Batches of pairs in which every text occurs at most once.

    Tasks come in random order with all their classes, so that a batch holds the fine distinctions within tasks as well
    as the coarse ones between them.

    Args:
        captions: All captions.
        members: Rows of the image bank that each caption is true of.
        steps: Number of batches.
        batch: Pairs in a batch; fewer when there are fewer different captions.
        rng: Random numbers.

    Returns:
        Rows of images and numbers of captions, both ``(steps, batch)``.
    """
    first = [caption.texts()[0] for caption in captions]
    groups: dict[str, list[int]] = {}
    for number, caption in enumerate(captions):
        groups.setdefault(caption.task, []).append(number)
    blocks = list(groups.values())
    batch = min(batch, len(set(first)))
    chosen = np.empty((steps, batch), dtype=np.int64)
    repeated = len(set(first)) < len(first)
    for step in range(steps):
        order = [number for block in rng.permutation(len(blocks)) for number in blocks[block]]
        if repeated:
            order = list({first[number]: number for number in order}.values())
        chosen[step] = order[:batch]
    counts = np.array([len(rows) for rows in members])
    widest = int(counts.max())
    table = np.stack([np.resize(rows, widest) for rows in members])
    return table[chosen, rng.integers(0, counts[chosen])], chosen


def train_clip(
    bank: Bank, captions: Sequence[Caption], settings: ClipSettings, device: str = "cpu", mixed: bool = True
) -> tuple[nn.Module, float]:
    """Train the encoder.

    Args:
        bank: Images of the captions' tasks, on ``device``.
        captions: What the images show.
        settings: Size and training.
        device: ``cpu`` or ``cuda``.
        mixed: Compute in bfloat16 on a GPU.

    Returns:
        The ``open_clip.model.CLIP`` on the CPU in evaluation mode, and its final loss.
    """
    from open_clip.loss import ClipLoss

    prepare_device(device)
    rng = np.random.default_rng([settings.seed, 2])
    tokenizer = tokenizer_of(captions, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = new_clip(settings.arguments(), tokenizer)
    texts = [text for caption in captions for text in caption.texts()]
    tokens = tokenize(tokenizer, texts, settings.context).to(device)  # (captions * templates, context)
    members = [
        bank.rows[caption.task][0] + np.flatnonzero(bank.labels[caption.task] == caption.class_index)
        for caption in captions
    ]
    rows, numbers = pair_batches(captions, members, settings.steps, settings.batch, rng)
    shape = (*rows.shape, 2)
    numbers = numbers * len(TEMPLATES) + rng.integers(0, len(TEMPLATES), numbers.shape)
    inputs = {
        "rows": torch.from_numpy(rows),
        "texts": torch.from_numpy(numbers),
        "shifts": torch.from_numpy(rng.integers(-SHIFT, SHIFT + 1, shape, dtype=np.int8)),
        "tones": torch.from_numpy(
            rng.uniform(-1, 1, shape).astype(np.float32) * np.array([BRIGHTNESS, CONTRAST], np.float32)
        ).half(),
    }
    contrast = ClipLoss()
    cuda = torch.device(device).type == "cuda"

    def loss(module: Any, row: Mapping[str, Tensor]) -> Tensor:
        images = normalise(shifted(bank.images[row["rows"]], row["shifts"].long()))
        images = toned(images, row["tones"].float())
        # Casts are not cached: a captured graph would keep reading the weights' first copies.
        with torch.autocast("cuda", torch.bfloat16, enabled=mixed and cuda, cache_enabled=False):
            image = module.encode_image(images, normalize=True)
            text = module.encode_text(tokens[row["texts"]], normalize=True)
        return contrast(image.float(), text.float(), module.logit_scale.exp().clamp(max=100.0))

    model.to(device).train()
    optimisation = Optimisation(settings.steps, settings.learning_rate, settings.weight_decay)
    runner = StepRunner(model, loss, inputs, optimisation, device, "clip")
    captured = runner.capture()
    logger.info("CLIP: %d steps of %d pairs%s", settings.steps, rows.shape[1], "" if captured else ", no CUDA graph")
    for begun in range(0, settings.steps, 100):
        runner.advance(min(100, settings.steps - begun))
        if runner.stream is not None:
            runner.stream.synchronize()
    final = runner.final_loss()
    model.zero_grad(set_to_none=True)
    return model.cpu().eval(), final


def tokenizer_of(captions: Sequence[Caption], settings: ClipSettings) -> Any:
    """The tokenizer learned from the captions."""
    return caption_tokenizer(tuple(sorted({text for c in captions for text in c.texts()})), settings.vocabulary)


def save_clip(
    model: nn.Module, captions: Sequence[Caption], settings: ClipSettings, folder: Path, note: dict[str, Any]
) -> None:
    """Save in open_clip's local-directory format, weights in half precision."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer_of(captions, settings)
    state = {key: value.detach().cpu().half().contiguous() for key, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    config = {
        "model_cfg": clip_configuration(settings.arguments(), tokenizer),
        "preprocess_cfg": {
            "mean": list(MEAN), "std": list(STD), "interpolation": "bilinear", "resize_mode": "squash",
        },
        "thesis_rec": {**note, "settings": asdict(settings)},
    }  # fmt: skip
    for name, content in {"open_clip_config.json": config, **tokenizer_files(tokenizer, settings.context)}.items():
        (folder / name).write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


def class_mean_accuracy(model: Any, images: TaskImages, device: str = "cpu") -> float:
    """Share of a task's test images nearest (by cosine) to their own class's mean training feature."""
    model.to(device).eval()

    @torch.inference_mode()
    def encode(pixels: NDArray[np.uint8]) -> Tensor:
        chunks = torch.from_numpy(pixels).split(1024)
        found = [model.encode_image(normalise(chunk.to(device)), normalize=True) for chunk in chunks]
        return torch.cat(found)

    features, queries = encode(images.train_images), encode(images.test_images)
    known = torch.from_numpy(images.train_labels).to(device)
    means = torch.stack([features[known == k].mean(0) for k in range(int(known.max()) + 1)])
    predicted = (queries @ nn.functional.normalize(means, dim=1).T).argmax(1)
    return float((predicted.cpu().numpy() == images.test_labels).mean())
