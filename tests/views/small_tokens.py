"""Tokens of small folders of coloured images."""

from tests.images.encoders.tiny import colour_encoder
from thesis_rec.images.manifest import DatasetRow
from thesis_rec.views.tokens import TokenSettings, extract_tokens, load_task_tokens


class Kept(dict):
    """A shard in memory that is called like one on the disk."""

    def __call__(self, *names):
        return self


SETTINGS = TokenSettings(batches=5, images_per_shard=6)


def row(name="d", **fields):
    return DatasetRow.model_validate(
        {"dataset_id": name, "loader": "folder", "source": name, "splits": "train=all"} | fields
    )


def tokens_of(shards, rows):
    return load_task_tokens(shards, rows)[0]


def run(rows, root, settings=SETTINGS, existing=None, encoder=colour_encoder, encoder_id="colour"):
    shards, outcomes = {}, {}
    for new_shards, new_outcomes in extract_tokens(rows, root, settings, encoder_id, existing or {}, encoder):
        shards |= {key: Kept(shard) for key, shard in new_shards.items()}
        outcomes |= new_outcomes
    return shards, outcomes
