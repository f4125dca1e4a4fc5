"""The pipeline published: what the hub zoo knows from published figures."""
