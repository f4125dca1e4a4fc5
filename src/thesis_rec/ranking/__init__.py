"""Rankings of models: losses, metrics, splits, baselines, transferability scores and active probing."""
