"""One question: images in, the bundle, candidates and their cost, datasets nearby, the answer and its report."""
