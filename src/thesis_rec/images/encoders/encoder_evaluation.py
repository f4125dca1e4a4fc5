"""How good an image encoder is on a dataset, from its tokens alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from thesis_rec.base.tables import Floats, TaskTokens, unit
from thesis_rec.images.encoders.image_encoder import ImageEncoder


def nearest_class_mean_accuracy(features: Floats, tested: Floats | None = None) -> float:
    """Accuracy of the class whose mean feature is nearest by cosine (Mensink et al. 2013, without a learned metric).

    Without features to test on, each batch is classified by the means of the others, so no image votes for itself.

    Args:
        features: (B, C, D) unit features, one of each class in a batch.
        tested: (T, C, D) likewise, of another split.

    Returns:
        Fraction of images classified rightly; NaN for a single batch without a test.
    """
    sums = features.sum(axis=0, keepdims=True)  # (1, C, D)
    if tested is None:
        if len(features) < 2:
            return float("nan")
        sums, tested = sums - features, features  # (B, C, D): without the batch's own image
    cosines = tested @ unit(sums).swapaxes(-1, -2)  # (T, C, C): of each image with each class's mean
    return float((cosines.argmax(-1) == np.arange(features.shape[1])).mean())


def zero_shot_accuracy(features: Floats, text: Floats) -> float:
    """Accuracy of the class whose text feature is nearest (Radford et al. 2021).

    Args:
        features: (B, C, D) unit features of images.
        text: (C, D) unit features of the classes' prompts.
    """
    return float(((features @ text.T).argmax(-1) == np.arange(features.shape[1])).mean())


def class_text_features(encoder: ImageEncoder, class_names: Sequence[str], prompts: Sequence[str]) -> Floats | None:
    """(C, D) unit features of classes: the mean over prompts, as in prompt ensembling (Radford et al. 2021).

    Args:
        encoder: The encoder.
        class_names: C names; underscores are read as spaces.
        prompts: Templates with ``{}`` where the name goes.

    Returns:
        The features, or None where the encoder has no text tower.
    """
    names = [name.replace("_", " ") for name in class_names]
    found = encoder.encode_text([prompt.format(name) for name in names for prompt in prompts])
    if found is None:
        return None
    return unit(found.reshape(len(names), len(prompts), -1).mean(axis=1))


def evaluated(
    encoder: ImageEncoder, train: TaskTokens, tested: TaskTokens | None, prompts: Sequence[str]
) -> dict[str, Any]:
    """Both accuracies of an encoder on a dataset.

    Args:
        encoder: The encoder that made the tokens.
        train: Tokens of the training split.
        tested: Tokens of the test split; None tests training batches on each other.
        prompts: Templates of the class names.

    Returns:
        ``nearest_class_mean``, ``zero_shot`` (None without a text tower), ``chance`` and ``tested_on``.
    """
    held_out = tested.features if tested and tested.class_names == train.class_names else None
    shown = train.features if held_out is None else held_out
    text = class_text_features(encoder, train.class_names, prompts)
    return {
        "nearest_class_mean": nearest_class_mean_accuracy(train.features, held_out),
        "zero_shot": None if text is None else zero_shot_accuracy(shown, text),
        "chance": 1.0 / len(train.class_names),
        "tested_on": "train" if held_out is None else "test",
    }


def mean_accuracies(datasets: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """Means over the datasets that have each figure."""
    table = pd.DataFrame([*datasets.values()], columns=["nearest_class_mean", "zero_shot", "chance"], dtype=float)
    return {str(name): None if np.isnan(mean) else float(mean) for name, mean in table.mean().items()}
