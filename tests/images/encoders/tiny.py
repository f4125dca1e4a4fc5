"""Encoders small enough for tests, in the formats of their libraries."""

import json

import numpy as np

TINY_CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def save_open_clip(folder):
    """A random CLIP in open_clip's local-dir format."""
    import torch
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = CLIP(24, CLIPVisionCfg(**TINY_CLIP["vision_cfg"]), CLIPTextCfg(**TINY_CLIP["text_cfg"]))
    save_file(model.state_dict(), str(folder / "open_clip_model.safetensors"))
    config = {"model_cfg": TINY_CLIP, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def colour_encoder(size=8, name="colour"):
    """An encoder whose features are the mean colour and its contrast: no library needed."""
    import torch
    from torch import nn

    from thesis_rec.images.encoders.torch_encoder import TorchEncoder
    from thesis_rec.models.backbone import Backbone, Preparation

    class Colour(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Conv2d(3, 4, 1)
            nn.init.ones_(self.inner.weight)

        def forward(self, pixels):
            self.inner(pixels)
            mean = pixels.mean((2, 3))
            return torch.cat([mean, mean.mean(1, keepdim=True) + 1.0], dim=1)

    network = Colour()

    def text(texts, device):
        colours = {"red": (1.0, 0, 0), "green": (0, 1.0, 0), "blue": (0, 0, 1.0)}
        rows = [next((value for key, value in colours.items() if key in t), (0.5, 0.5, 0.5)) for t in texts]
        return torch.tensor([[*row, sum(row) / 3 + 1.0] for row in rows], dtype=torch.float32)

    preparation = Preparation(size, interpolation="bicubic", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return TorchEncoder(Backbone(name, network, network, None, preparation), text)


COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def write_colour_folder(folder, per_class=4, splits=(), size=10):
    """An image folder with one class per colour, every image with noise of its own."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for split in splits or [""]:
        for name, colour in COLOURS.items():
            target = folder / split / name
            target.mkdir(parents=True)
            for i in range(per_class):
                noise = rng.integers(-40, 40, (size, size, 3))
                pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(target / f"{name}_{i}.png")
    return folder
