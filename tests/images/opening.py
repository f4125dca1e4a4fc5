"""One split of a dataset, as tests open it."""

from thesis_rec.images.loading import open_dataset


def open_split(row, split, root, limits=None):
    return open_dataset(row, root, limits).split(split)
