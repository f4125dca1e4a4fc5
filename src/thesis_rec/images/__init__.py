"""Where images come from: the dataset manifest, loaders, class-balanced batches and tokens."""
