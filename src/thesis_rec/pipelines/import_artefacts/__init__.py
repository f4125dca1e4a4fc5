"""Existing vectors, embeddings, tokens and performance tables, brought into the project's own catalog."""
