"""Where models come from: the manifest, loaders of the public libraries, and extractors of their weights."""
