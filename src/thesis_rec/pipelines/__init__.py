"""The Kedro pipelines: wiring, short nodes and typed parameters."""
