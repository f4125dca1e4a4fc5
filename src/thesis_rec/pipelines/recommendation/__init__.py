"""Which model for these images on this hardware: the ranked answer, as a table, a document and a report."""
