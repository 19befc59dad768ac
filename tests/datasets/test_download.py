"""Downloads that are cut, wrong or impossible."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError

import pytest
import torchvision

from corridor_exp import datasets
from corridor_exp.datasets.download import fetch
from corridor_exp.errors import RunError
from tests.datasets import damage
from tests.datasets.test_datasets import CPU

CONTENT = bytes(range(256)) * 4000
LOCK = ".data.tar.gz.lock"
MD5 = hashlib.md5(CONTENT).hexdigest()


class Served(ThreadingHTTPServer):
    """CONTENT at `url`, cut after `cut` bytes of an answer; `asked` are the ranges that were asked for.

    Any other path has the content of `files`.
    """

    def __init__(self) -> None:
        self.cut, self.ranges, self.says_length, self.asked = len(CONTENT), True, True, []
        self.files: dict[str, bytes] = {}
        super().__init__(("127.0.0.1", 0), _Answer)
        self.url = f"http://127.0.0.1:{self.server_port}/data.tar.gz"


class _Answer(BaseHTTPRequestHandler):
    server: Served

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self.server.asked.append(self.headers["Range"])
        content = self.server.files.get(self.path.removeprefix("/"), CONTENT)
        begin = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")) if self.server.ranges else 0
        if begin and begin >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if self.server.ranges else 200)
        if self.server.says_length:
            self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        self.wfile.write(content[begin : begin + self.server.cut])


@pytest.fixture
def served() -> Iterator[Served]:
    with Served() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("ranges", [True, False])
def test_row_9_a_cut_download_is_told_never_used_and_gone_on_with(served: Served, tmp_path: Path, ranges: bool) -> None:
    file = tmp_path / "root" / "data.tar.gz"
    served.cut, served.ranges = 300_000, ranges
    with pytest.raises(RunError, match=r"cut after 300,000 of 1,024,000 bytes.*goes on from there"):
        fetch(served.url, file, MD5)
    assert not file.exists()
    served.cut = len(CONTENT)
    fetch(served.url, file, MD5)
    assert file.read_bytes() == CONTENT
    assert served.asked == ["bytes=0-", "bytes=300000-"]
    fetch(served.url, file, MD5)
    assert len(served.asked) == 2
    assert {f.name for f in file.parent.iterdir()} == {file.name, LOCK}


def test_a_download_that_never_began_has_nothing_to_go_on_from(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="refused") as told:
        fetch("http://127.0.0.1:1/data.tar.gz", tmp_path / "data.tar.gz", MD5)
    assert "goes on" not in str(told.value)


def test_row_9_a_run_killed_after_the_last_byte_goes_on_from_there(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "data.tar.gz"
    file.with_name("data.tar.gz.part").write_bytes(CONTENT)
    fetch(served.url, file, MD5)
    assert file.read_bytes() == CONTENT
    file.unlink()
    file.with_name("data.tar.gz.part").write_bytes(CONTENT + b"and more")
    with pytest.raises(RunError, match="is not what it should be"):
        fetch(served.url, file, MD5)
    fetch(served.url, file, MD5)
    assert file.read_bytes() == CONTENT


def test_row_9_a_server_need_not_say_how_long_its_file_is(served: Served, tmp_path: Path) -> None:
    served.says_length, served.cut = False, 300_000
    with pytest.raises(RunError, match="is not what it should be"):
        fetch(served.url, tmp_path / "data", MD5)
    served.cut = len(CONTENT)
    fetch(served.url, tmp_path / "data", MD5)
    assert (tmp_path / "data").read_bytes() == CONTENT


def test_row_9_each_file_of_mnist_is_gone_on_with_too(served: Served, tmp_path: Path, monkeypatch) -> None:
    damage.release(tmp_path / "made")
    packed = {f"{f.name}.gz": gzip.compress(f.read_bytes(), mtime=0) for f in (tmp_path / "made/MNIST/raw").iterdir()}
    served.files, served.cut = packed, 40
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [served.url.removesuffix("data.tar.gz")])
    resources = [(name, hashlib.md5(content).hexdigest()) for name, content in sorted(packed.items())]
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
    options = {"root": str(tmp_path / "data"), "download": True, "image_size": damage.SIZE, **CPU}
    answers = sum(-(-len(content) // 40) for content in packed.values())
    for _ in range(answers - len(packed)):  # one call gets the last answer of a file and the first of the next one
        with pytest.raises(RunError, match="goes on from there"):
            datasets.mnist(**options)
    dataset = datasets.mnist(**options)
    assert (dataset.train_size, dataset.test_size) == (4, 4)
    assert served.asked[:3] == ["bytes=0-", "bytes=40-", "bytes=80-"]
    assert len(served.asked) == answers


def test_row_9_another_content_is_refused_and_deleted(served: Served, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not what it should be"):
        fetch(served.url, tmp_path / "data.tar.gz", "0" * 32)
    assert [f.name for f in tmp_path.iterdir()] == [LOCK]


def test_without_a_network_the_error_names_the_cures(tmp_path: Path, monkeypatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("corridor_exp.datasets.download.urlopen", unreachable)
    with pytest.raises(RunError, match=r"not known.*dataset\.root.*dataset=digits"):
        datasets.cifar10(root=str(tmp_path / "data"), download=True, **CPU)


def test_row_9_a_run_whose_download_fails_says_so_in_one_line(
    served: Served, corridor_train, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", served.url)
    served.cut = 1000
    assert corridor_train("dataset.root=data", "model.width=8", "logger=jsonl", "out_dir=out") == 1
    err = capsys.readouterr().err
    assert "cut after 1,000 of 1,024,000 bytes" in err
    assert "Traceback" not in err


def test_of_several_that_want_a_file_one_downloads_it(served: Served, tmp_path: Path) -> None:
    errors: list[Exception] = []

    def want() -> None:
        try:
            fetch(served.url, tmp_path / "data.tar.gz", MD5)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(served.asked) == 1
    assert (tmp_path / "data.tar.gz").read_bytes() == CONTENT
