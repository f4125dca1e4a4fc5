"""The training service that all networks share, and what each of them adds to it."""
