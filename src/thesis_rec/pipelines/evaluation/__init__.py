"""The ranker and every baseline on the same cells, in four quadrants, with intervals and figures."""
