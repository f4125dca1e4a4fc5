"""The thesis's rankers: networks, losses, features and training set, and what the thesis code left behind."""
