"""Measures what models really achieve on datasets: linear probes, fine-tuning, transferability scores, responses."""
