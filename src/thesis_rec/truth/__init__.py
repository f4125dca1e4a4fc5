"""Measured performance of models on labelled images: linear probes, fine-tuning and their noise."""
