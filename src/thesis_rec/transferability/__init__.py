"""Scores that estimate from one forward pass how well a model transfers to a task, each from its paper.

Every score takes a :class:`ScoreInput` (one task, or a padded batch of tasks) and gives one number per task, higher
being better; only their order within a task means anything. They are baselines: unlike a recommendation, they run
every candidate on the target's images.
"""
