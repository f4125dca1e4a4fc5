"""What the embedded zoo is made of: image generators, model recipes, provenance."""
