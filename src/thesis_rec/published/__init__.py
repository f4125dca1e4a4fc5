"""Published figures of real models: where they come from, how they are fetched, and reading them into cells."""
