"""Checkpoints to vectors of 8192 numbers, model by model."""
