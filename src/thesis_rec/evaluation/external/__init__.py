"""Published tables of fine-tuned models as a benchmark: reading them, ranking on them, figures to compare with."""
