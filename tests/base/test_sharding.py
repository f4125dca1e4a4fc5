import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from thesis_rec.base.settings import Shard, evenly


@given(st.lists(st.integers(), unique=True), st.integers(1, 9))
def test_shards_partition_the_items(items, count):
    shards = [Shard(index=i, count=count).select(items) for i in range(count)]
    assert sorted(item for shard in shards for item in shard) == sorted(items)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_index_must_be_below_count():
    with pytest.raises(ValidationError, match="must be below"):
        Shard(index=2, count=2)


def test_thinned_items_are_evenly_spaced():
    assert evenly(range(10), 3) == [0, 4, 9]
    assert evenly("ab", 2) == evenly("ab", None) == ["a", "b"]
