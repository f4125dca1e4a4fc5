"""The ranker and the baselines on published tables of fine-tuned models."""
