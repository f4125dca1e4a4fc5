"""Files stay whole: killed writers, two writers at once, and a full disk."""

import errno
import os
import subprocess
import sys
import time

import pytest
import torch

from thesis_rec.base.files import atomic_path, write_json

WRITER = """
import sys
from pathlib import Path
from thesis_rec.base.files import atomic_path
letter, target = sys.argv[1], Path(sys.argv[2])
print("ready", flush=True)
while True:
    with atomic_path(target) as temporary, temporary.open("w") as file:
        for _ in range(200):
            file.write(letter * 5000)
"""


def start(letter, target):
    process = subprocess.Popen([sys.executable, "-c", WRITER, letter, str(target)], stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def test_a_killed_writer_leaves_the_old_file_or_the_new_one(tmp_path):
    target = tmp_path / "answer.txt"
    for delay in (0.02, 0.05, 0.11):
        target.write_text("o" * 1_000_000)
        process = start("n", target)
        time.sleep(delay)
        process.kill()
        process.wait()
        content = target.read_text()
        assert len(content) == 1_000_000
        assert len(set(content)) == 1


def test_two_writers_at_once_never_mix(tmp_path):
    target = tmp_path / "answer.txt"
    target.write_text("a" * 1_000_000)
    writers = [start(letter, target) for letter in "ab"]
    try:
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            content = target.read_text()
            assert len(content) == 1_000_000
            assert len(set(content)) == 1
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()


def test_a_full_disk_loses_nothing(full_disk):
    target = full_disk / "answer.json"
    write_json(target, {"old": 1})
    with pytest.raises(OSError, match=r"No space left on device: .*answer\.json") as caught:
        write_json(target, {"new": "x" * (2 << 20)})
    assert caught.value.errno == errno.ENOSPC
    assert target.read_text() == '{\n  "old": 1\n}\n'
    assert os.listdir(full_disk) == ["answer.json"]


def test_torch_on_a_full_disk_is_told_as_others_are(full_disk):
    with (
        pytest.raises(OSError, match=r"is the disk full\?: .*weights\.pt"),
        atomic_path(full_disk / "weights.pt") as path,
    ):
        torch.save({"a": torch.zeros(1 << 20)}, path)
    assert os.listdir(full_disk) == []


def test_of_several_files_all_appear_or_none(full_disk):
    def write(size):
        with atomic_path(full_disk / "a") as first, atomic_path(full_disk / "b") as second:
            first.write_text("x" * size)
            second.write_text("y" * size)

    with pytest.raises(OSError, match="No space left"):
        write(700_000)
    assert os.listdir(full_disk) == []
    write(300_000)
    assert sorted(os.listdir(full_disk)) == ["a", "b"]
