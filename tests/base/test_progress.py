import io
import logging

from thesis_rec.base import progress


def test_lines_in_a_log(monkeypatch, caplog):
    clock = iter(range(0, 1000, 5))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(progress.sys, "stderr", io.StringIO())
    with caplog.at_level(logging.INFO, logger="thesis_rec.base.progress"):
        assert list(progress.track(range(20), "reading")) == list(range(20))
    assert [record.getMessage() for record in caplog.records] == [
        "reading: 7 of 20 after 35 s", "reading: 14 of 20 after 70 s",
    ]  # fmt: skip


def test_unknown_total(monkeypatch, caplog):
    clock = iter(range(0, 1000, 40))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(progress.sys, "stderr", io.StringIO())
    with caplog.at_level(logging.INFO, logger="thesis_rec.base.progress"):
        list(progress.track(iter(range(3)), "reading"))
    assert "1 of ?" in caplog.text


def test_bar_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(progress.sys, "stderr", terminal)
    monkeypatch.setattr("tqdm.std.sys.stderr", terminal)
    assert list(progress.track([1, 2, 3], "reading")) == [1, 2, 3]
