"""Scores that estimate from one forward pass how well a model transfers to a task, each from its paper.

Every score takes a :class:`ScoreInput` (one task, or a padded batch of tasks) and gives one number per task, higher
being better; only their order within a task means anything. They are baselines: unlike a recommendation, they run
every candidate on the target's images.
"""

from thesis_rec.transferability.gbc import gbc
from thesis_rec.transferability.h_score import h_score
from thesis_rec.transferability.inputs import ScoreInput
from thesis_rec.transferability.leep import leep
from thesis_rec.transferability.log_me import log_me
from thesis_rec.transferability.n_leep import n_leep

__all__ = ["ScoreInput", "gbc", "h_score", "leep", "log_me", "n_leep"]
