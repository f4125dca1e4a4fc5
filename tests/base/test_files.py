import json
import os
import stat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thesis_rec.base.files import (
    atomic_path,
    decode_id,
    encode_id,
    load_arrays,
    save_arrays,
    sha256_file,
    sha256_json,
    write_json,
)


def test_atomic_path_replaces_only_on_success(tmp_path):
    target = tmp_path / "deep" / "file.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("one")
        assert not target.exists()
    assert target.read_text() == "one"

    def fail_half_way():
        with atomic_path(target) as temporary:
            temporary.write_text("tw")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    assert target.read_text() == "one"
    assert [p.name for p in target.parent.iterdir()] == ["file.txt"]


def test_atomic_path_lets_the_group_read(tmp_path):
    with atomic_path(tmp_path / "shared.bin") as temporary:
        temporary.write_bytes(b"x")
    assert (tmp_path / "shared.bin").stat().st_mode & stat.S_IRGRP


def test_atomic_path_leaves_the_mask_alone_which_all_threads_share(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("another thread's files get a mask of 0 meanwhile"))
    write_json(tmp_path / "a.json", 1)


def test_write_json_round_trip(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, 2.5, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1, 2.5, None]}


@given(st.text(min_size=1, max_size=60))
def test_encoded_ids_are_safe_and_reversible(identifier):
    name = encode_id(identifier)
    assert decode_id(name) == identifier
    assert "/" not in name
    assert not name.startswith(".")


def test_hashes(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_json({"a": 1, "b": 2}) == sha256_json({"b": 2, "a": 1})
    assert sha256_json({"a": 1}) != sha256_json({"a": 2})


def test_arrays_come_back_and_pickled_ones_are_refused(tmp_path):
    save_arrays(tmp_path / "a.npz", {"x": np.arange(3), "names": np.array(["a", "b"])})
    found = load_arrays(tmp_path / "a.npz")
    assert found["x"].tolist() == [0, 1, 2]
    assert found["names"].tolist() == ["a", "b"]
    np.savez(tmp_path / "b.npz", x=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        load_arrays(tmp_path / "b.npz")
    whole = (tmp_path / "a.npz").read_bytes()
    for content, reason in ((b"junk", "no NPZ file"), (whole[:-50], "its end is missing"), (b"", "it is empty")):
        (tmp_path / "c.npz").write_bytes(content)
        with pytest.raises(ValueError, match=reason):
            load_arrays(tmp_path / "c.npz")
