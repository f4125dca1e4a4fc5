"""Having tables here: pinned, whole, or a line that says what to do."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Barrier, Thread

import fsspec
import pytest

from thesis_rec.base.errors import ItemError
from thesis_rec.published.cells import AT_ONCE, Source, TableFile, checksum, table_files

CONTENT = b"a,b\n1,2\n"
PINNED = hashlib.sha256(CONTENT).hexdigest()


def _source(**more: object) -> Source:
    entry = {"format": "open_clip", "repository": "a/b", "commit": "1234567", "licence": "MIT", "protocol": "p"}
    return Source(**{**entry, **more})  # type: ignore[arg-type]


class _Remote(Source):
    """A source whose files lie in fsspec's memory instead of the network."""

    @property
    def address(self) -> str:
        return "memory://upstream"


def _remote(**more: object) -> _Remote:
    return _Remote(**{**_source().model_dump(), **more})  # type: ignore[arg-type]


@pytest.fixture
def upstream() -> fsspec.AbstractFileSystem:
    system = fsspec.filesystem("memory")
    system.store.clear()
    return system


def test_fetched_once_then_read_from_the_cache(tmp_path: Path, upstream: fsspec.AbstractFileSystem) -> None:
    upstream.pipe("/upstream/t.csv", CONTENT)
    source = _remote(files=[{"path": "t.csv", "sha256": PINNED}])
    files, digest = table_files("t", source, None, tmp_path)
    upstream.rm("/upstream/t.csv")
    again, same = table_files("t", source, None, tmp_path)
    assert files == again
    assert digest == same
    assert files[0].read_bytes() == CONTENT


def test_a_file_that_differs_is_refused_and_not_kept(tmp_path: Path, upstream: fsspec.AbstractFileSystem) -> None:
    upstream.pipe("/upstream/t.csv", b"changed")
    source = _remote(files=[{"path": "t.csv", "sha256": PINNED}])
    with pytest.raises(ItemError, match=r"t: t\.csv has the checksum .* not the pinned"):
        table_files("t", source, None, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_half_a_file_is_never_read(
    tmp_path: Path, upstream: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.pipe("/upstream/t.csv", CONTENT)

    class Broken:
        def __enter__(self) -> Broken:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def read(self, _: int, done: list[int] = []) -> bytes:  # noqa: B006
            if done:
                raise OSError(28, "No space left on device")
            done.append(1)
            return CONTENT[:3]

    monkeypatch.setattr(fsspec, "open", lambda *_: Broken())
    source = _remote(files=[{"path": "t.csv"}])
    with pytest.raises(ItemError, match=r"t: memory.*No space left on device.*THESIS_REC_BENCHMARKS"):
        table_files("t", source, None, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_without_network_and_cache_one_line_names_source_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise ConnectionError("Network is unreachable")

    monkeypatch.setattr(fsspec, "open", refused)
    with pytest.raises(ItemError) as caught:
        table_files("clip", _source(files=[{"path": "t.csv"}]), None, tmp_path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("clip: https://raw.githubusercontent.com/a/b/1234567/t.csv can't be fetched")
    assert "THESIS_REC_BENCHMARKS" in str(caught.value)


def test_files_are_fetched_several_at_a_time_in_their_order(
    tmp_path: Path, upstream: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, real, together = [f"{i}.csv" for i in range(2 * AT_ONCE)], fsspec.open, Barrier(AT_ONCE)
    for name in names:
        upstream.pipe(f"/upstream/{name}", name.encode())

    def opened(*given: object) -> object:
        together.wait(timeout=30)
        return real(*given)

    monkeypatch.setattr(fsspec, "open", opened)
    files, _ = table_files("t", _remote(files=[{"path": name} for name in names]), None, tmp_path)
    assert [path.read_text() for path in files] == names


def test_after_one_that_fails_no_further_file_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refused(address: str, _: str) -> None:
        asked.append(address)
        time.sleep(0.05)
        raise ConnectionError("Network is unreachable")

    monkeypatch.setattr(fsspec, "open", refused)
    with pytest.raises(ItemError, match="can't be fetched"):
        table_files("t", _source(files=[{"path": f"{i}.csv"} for i in range(400)]), None, tmp_path)
    assert len(asked) < 100


def test_files_of_models_and_tasks_that_dont_exist_are_left_out(
    tmp_path: Path, upstream: fsspec.AbstractFileSystem
) -> None:
    upstream.pipe("/upstream/results/org__net/r1/DTD.json", b"{}")
    source = _remote(format="mieb", revisions={"org/net": "r1", "org/other": "r2"}, files=[{"local": "long.csv"}])
    files, _ = table_files("mieb", source, None, tmp_path, ["DTD", "CIFAR10"])
    assert [path.relative_to(tmp_path).as_posix() for path in files] == ["mieb/1234567/results/org__net/r1/DTD.json"]
    with pytest.raises(ItemError, match="none of the files"):
        table_files("mieb", source, None, tmp_path, ["MNIST"])


@pytest.fixture
def server() -> Iterator[str]:
    """Address of a web server that has ``there.json``, lacks ``absent.json``, and is too busy for all else."""

    class Busy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = {"there.json": 200, "absent.json": 404}.get(self.path.rpartition("/")[2], 429)
            self.send_response(status)
            self.send_header("Content-Length", "2" if status == 200 else "0")
            self.end_headers()
            if status == 200 and self.command == "GET":
                self.wfile.write(b"{}")

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as answers:
        Thread(target=answers.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{answers.server_port}"
        answers.shutdown()


def test_only_what_the_server_says_it_lacks_is_absent(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fsspec calls every failed request a missing file: figures that couldn't be fetched would be left out unseen."""
    monkeypatch.setattr(_Remote, "address", server)
    source = _remote(format="mieb", revisions={"org/a": "r1"})
    files, _ = table_files("mieb", source, None, tmp_path / "one", ["there", "absent"])
    assert [path.name for path in files] == ["there.json"]
    with pytest.raises(ItemError, match=r"busy\.json can't be fetched \(429"):
        table_files("mieb", source, None, tmp_path / "two", ["there", "busy"])
    monkeypatch.setattr(_Remote, "address", "http://127.0.0.1:1")
    with pytest.raises(ItemError, match=r"there\.json can't be fetched .*THESIS_REC_BENCHMARKS"):
        table_files("mieb", source, None, tmp_path / "three", ["there"])


def test_a_folder_of_tables_is_checked_too(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(CONTENT)
    files, _ = table_files("t", _source(files=[{"local": "t.csv", "sha256": PINNED}]), tmp_path, tmp_path / "no")
    assert files == [tmp_path / "t.csv"]
    (tmp_path / "t.csv").write_bytes(CONTENT + b"3,4\n")
    with pytest.raises(ItemError, match="not the pinned"):
        table_files("t", _source(files=[{"local": "t.csv", "sha256": PINNED}]), tmp_path, tmp_path / "no")


def test_the_checksum_is_of_names_and_bytes_in_sorted_order(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"1")
    second.write_bytes(b"2")
    before = checksum([first, second], tmp_path)
    assert before == checksum([second, first], tmp_path)
    # As the shipped record has them: another way to join them couldn't be held against it.
    lines = [f"{path.name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in (first, second)]
    assert before == hashlib.sha256("".join(lines).encode()).hexdigest()
    first.write_bytes(b"2")
    second.write_bytes(b"1")
    assert before != checksum([first, second], tmp_path)
    assert TableFile(path="x").sha256 == ""
