"""Datasets to tokens: class-balanced batches of images, encoded and sharded."""
