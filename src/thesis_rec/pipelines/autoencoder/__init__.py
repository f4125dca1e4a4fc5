"""Model vectors to embeddings: an autoencoder trained on the known models."""
