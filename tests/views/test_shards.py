"""Which batches a shard holds."""

from tests.images.encoders.tiny import colour_encoder
from tests.images.opening import open_split
from tests.views.small_tokens import row
from thesis_rec.views.tokens import SplitTokens, TokenSettings, batch_ranges, make_shards


def test_ranges_of_shards():
    assert batch_ranges(5, 3, 6) == [range(2), range(2, 4), range(4, 5)]
    assert batch_ranges(2, 1000, 10) == [range(1), range(1, 2)]


def test_make_shards_needs_every_class(folder):
    images = open_split(row(), "train", folder)
    shards = list(make_shards(SplitTokens(colour_encoder(), images, TokenSettings(batches=1)), "train", "h"))
    assert [key for key, _ in shards] == ["d/train/00000"]
