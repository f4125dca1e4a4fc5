"""What is left out plays no part."""

import numpy as np

from thesis_rec.evaluation.external.benchmark import leave_one_out


def test_strict_variant_drops_shared_images(table):
    seen = []

    def spy(task):
        seen.append((table.dataset_ids[task.target], {table.dataset_ids[j] for j in task.columns}))
        return np.zeros(len(table.model_ids))

    leave_one_out(table, {"spy": spy}, strict=True)
    columns = dict(seen)
    assert "smallnorb_label_azimuth" not in columns["smallnorb_label_elevation"]
    assert "smallnorb_label_azimuth" in columns["dtd"]
    assert all(target not in found for target, found in seen)
