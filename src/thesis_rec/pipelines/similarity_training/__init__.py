"""Embeddings, tokens and measured performance to trained rankers."""
