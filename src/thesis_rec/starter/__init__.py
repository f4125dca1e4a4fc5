"""What the embedded zoo is made of: model recipes, provenance."""
