"""Figures, the page of results and the report of a recommendation."""
