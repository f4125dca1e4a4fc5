"""Scores that estimate from one forward pass how well a model transfers to a task, each from its paper.

Every score takes a task's :class:`~thesis_rec.transferability.estimates.ScoreInput` and gives one number, higher being
better; only their order within a task means anything. They are baselines: unlike a recommendation, they run
every candidate on the target's images.
"""
