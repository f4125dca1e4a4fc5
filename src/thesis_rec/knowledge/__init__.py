"""What is known of models and datasets, and what follows for those that weren't measured."""
