"""How good recommendations are: known and unknown, metrics, baselines, intervals, figures and the results page."""
