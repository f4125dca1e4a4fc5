"""What is left out plays no part."""

import numpy as np

from thesis_rec.evaluation.external import leave_one_out


def test_each_target_is_left_out_in_turn(table):
    seen = []

    def spy(table):
        (target,) = (table.dataset_ids[j] for j in table.columns("test"))
        seen.append((target, set(table.training().dataset_ids)))
        return np.zeros(table.values.shape)

    leave_one_out(table, {"spy": spy})
    columns = dict(seen)
    assert set(columns) == set(table.targets)
    assert "smallnorb_label_azimuth" in columns["dtd"]
    assert all(target not in found for target, found in seen)
