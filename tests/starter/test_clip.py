import numpy as np
import pytest
import torch

from thesis_rec.base.tables import TaskImages
from thesis_rec.starter.clip import (
    Caption,
    ClipSettings,
    captions_of,
    class_mean_accuracy,
    pair_batches,
    save_clip,
    tokenizer_of,
    train_clip,
)
from thesis_rec.starter.modules import caption_tokenizer, tokenize
from thesis_rec.starter.pretraining import Bank

SETTINGS = ClipSettings(
    embed_dim=16, width=32, layers=1, patch=8, text_width=16, text_layers=1, vocabulary=300, steps=40, batch=6,
    learning_rate=1e-2,
)  # fmt: skip


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 10)

    def paint(channel):
        images = rng.integers(0, 40, (30, 32, 32, 3))
        images[..., channel] += labels[:, None, None] * 100
        return np.clip(images, 0, 255).astype(np.uint8)

    data = {"red": (paint(0), labels, ["no", "some", "much"]), "blue": (paint(2), labels, ["no", "some", "much"])}
    captions = [
        Caption(task, i, name, f"{task} light", "plain") for task in data for i, name in enumerate(data[task][2])
    ]
    return data, captions


def test_captions_name_class_family_and_style():
    caption = Caption("t", 0, "star", "odd_shapes", "low_contrast")
    assert len(set(caption.texts())) == 4
    for text in caption.texts():
        assert "star" in text
        assert "odd shapes" in text
        assert "low contrast" in text
    captions = captions_of(["shapes_filled"])
    assert [c.class_index for c in captions] == list(range(len(captions)))


def test_no_text_occurs_twice_in_a_batch(world):
    _, captions = world
    twin = Caption("twin", 0, "no", "red light", "plain")
    members = [np.arange(i, i + 2) for i in range(7)]
    rows, numbers = pair_batches([*captions, twin], members, 20, 100, np.random.default_rng(0))
    texts = [c.texts()[0] for c in [*captions, twin]]
    assert rows.shape == numbers.shape == (20, 6)
    for chosen, images in zip(numbers, rows, strict=True):
        assert len({texts[i] for i in chosen}) == len(chosen)
        assert all(image in members[i] for i, image in zip(chosen, images, strict=True))
    assert len({tuple(sorted(chosen)) for chosen in numbers}) == 2


def test_training_pairs_images_with_captions_and_the_checkpoint_is_open_clips(world, tmp_path):
    import open_clip

    data, captions = world
    model, loss = train_clip(Bank.of(data), captions, SETTINGS)
    assert loss < np.log(6)
    images, labels, _ = data["red"]
    task = TaskImages("red", images, labels, images, labels, ["no", "some", "much"])
    assert class_mean_accuracy(model, task) > 0.6
    save_clip(model, captions, SETTINGS, tmp_path, {"tasks": 2})
    loaded = open_clip.create_model(f"local-dir:{tmp_path}").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(["no, red light, plain", "x" * 200])
    assert torch.equal(tokens, tokenize(tokenizer_of(captions, SETTINGS), ["no, red light, plain", "x" * 200], 40))
    with torch.no_grad():
        torch.testing.assert_close(loaded.encode_text(tokens), model.encode_text(tokens), rtol=0.02, atol=0.01)


def test_the_tokenizer_reads_any_text_and_pools_at_its_end():
    plain = caption_tokenizer()
    learned = caption_tokenizer(("a red star", "a blue star", "a red moon"), 280)
    for tokenizer in (plain, learned):
        ids = tokenize(tokenizer, ["a red star", "日本 Ωß"], 40)
        end = tokenizer.get_vocab_size() - 1
        assert ids.argmax(1).tolist() == [int(i) for i in (ids == end).int().argmax(1)]
        assert tokenizer.decode(ids[1].tolist(), skip_special_tokens=True) == "日本 Ωß"
    assert len(learned.encode("a red star").ids) < len(plain.encode("a red star").ids)


def test_the_encoder_fits_its_budget():
    from thesis_rec.starter.modules import new_clip

    settings = ClipSettings()
    model = new_clip(settings.arguments(), caption_tokenizer())
    spare = (settings.vocabulary - 259) * settings.text_width
    assert 2 * (sum(p.numel() for p in model.parameters()) + spare) < 2.8 * 2**20
