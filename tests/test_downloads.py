"""Downloading: once, whole, the right file, and a clear line when it does not work."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from disk_kit import TOO_LARGE, disk_that_takes

from msft_core import Context, DownloadError, downloads

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Bar:
    description: str
    total: int | None
    unit: str
    done: int = 0
    closed: bool = False


@dataclass
class Screen:
    """A reporter that keeps what it is told."""

    lines: list[str] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)

    def info(self, message: str) -> None:
        self.lines.append(message)

    def warning(self, message: str) -> None:
        self.lines.append(message)

    @contextmanager
    def progress(self, description: str, total: int | None = None, unit: str = "") -> Iterator[Any]:
        bar = Bar(description, total, unit)
        self.bars.append(bar)

        def advance(count: int) -> None:
            assert count >= 0
            bar.done += count

        yield advance
        bar.closed = True


Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Server:
    """A web server on loopback that answers as a test says."""

    address: str
    answer: Answer
    requests: list[str] = field(default_factory=list)

    def url(self, name: str = "weights.ckpt") -> str:
        return f"{self.address}/some/folder/{name}"


def whole(handler: BaseHTTPRequestHandler, content: bytes = CONTENT) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def cut_short(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    handler.wfile.write(CONTENT[:100_000])


def of_unknown_length(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(CONTENT)


def status(code: int) -> Answer:
    return lambda handler: handler.send_error(code)


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.requests.append(self.path)
            served.answer(self)

        def log_message(self, *_arguments: Any) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Server(f"http://127.0.0.1:{listener.server_port}", whole)
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
    thread.start()
    yield served
    listener.shutdown()
    thread.join()
    listener.server_close()


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture
def context(tmp_path: Path, screen: Screen) -> Context:
    return Context(0, tmp_path / "cache", screen)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


def failure(url: str, context: Context, **options: Any) -> str:
    """The message of a download that fails: one or two lines."""
    with pytest.raises(DownloadError) as caught:
        downloads.fetch(url, context, **options)
    message = str(caught.value)
    assert len(message.splitlines()) <= 2
    assert url in message
    return message


def files(context: Context) -> list[str]:
    return sorted(path.name for path in (context.cache_dir / "downloads").glob("*"))


def test_a_file_is_downloaded_under_its_name_and_used_again_without_the_network(
    server: Server, context: Context
) -> None:
    path = downloads.fetch(server.url(), context, sha256=SHA256, what="weights")
    assert path.read_bytes() == CONTENT
    assert path.name.endswith("-weights.ckpt")
    assert path == downloads.cached_path(server.url(), context)
    server.answer = status(500)
    assert downloads.fetch(server.url(), context, sha256=SHA256.upper()) == path
    assert server.requests == ["/some/folder/weights.ckpt"]


def test_the_same_name_at_two_addresses_is_two_files(server: Server, context: Context) -> None:
    first = downloads.fetch(server.address + "/a/net.ckpt", context)
    second = downloads.fetch(server.address + "/b/net.ckpt", context)
    assert first != second


def test_progress_ends_with_the_bytes_of_the_file(
    server: Server, context: Context, screen: Screen, capfd: pytest.CaptureFixture[str]
) -> None:
    downloads.fetch(server.url(), context, what="the weights")
    assert screen.lines == [f"Downloading the weights from {server.url()}"]
    (bar,) = screen.bars
    assert bar == Bar("Downloading the weights", len(CONTENT), "B", len(CONTENT), True)
    assert capfd.readouterr() == ("", "")


def test_a_file_of_unannounced_length_is_downloaded(
    server: Server, context: Context, screen: Screen
) -> None:
    server.answer = of_unknown_length
    assert downloads.fetch(server.url(), context, sha256=SHA256).read_bytes() == CONTENT
    assert screen.bars[0].total is None


def test_a_connection_that_breaks_off_is_tried_again(
    server: Server, context: Context, screen: Screen
) -> None:
    def better(handler: BaseHTTPRequestHandler) -> None:
        (whole if len(server.requests) == 3 else cut_short)(handler)

    server.answer = better
    assert downloads.fetch(server.url(), context).read_bytes() == CONTENT
    assert len(server.requests) == 3
    assert [bar.done for bar in screen.bars][-1] == len(CONTENT)


def test_a_download_that_stays_incomplete_leaves_nothing_behind(
    server: Server, context: Context
) -> None:
    server.answer = cut_short
    message = failure(server.url(), context, what="weights 'imagenet'", ways_out=("--weights F",))
    assert message == (
        f"weights 'imagenet': cannot download {server.url()}: the connection was lost\n"
        "Try: --weights F."
    )
    assert len(server.requests) == downloads.ATTEMPTS
    assert files(context) == []


def cut_at(size: int) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT[:size])

    return answer


def of_length(announced: int) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(announced))
        handler.end_headers()
        handler.wfile.write(CONTENT)

    return answer


def slowly(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    for start in range(0, len(CONTENT), 10_000):
        handler.wfile.write(CONTENT[start : start + 10_000])
        handler.wfile.flush()
        time.sleep(0.02)


def never(handler: BaseHTTPRequestHandler) -> None:
    threading.Event().wait(0.5)  # not time.sleep, which the test replaces


BROKEN: dict[str, tuple[Answer, str]] = {
    **{f"cut at {n} tenths": (cut_at(n * len(CONTENT) // 10), "lost") for n in range(10)},
    "cut at the last byte": (cut_at(len(CONTENT) - 1), "the connection was lost"),
    "500": (status(500), "the server answered 500"),
    "404": (status(404), "the server answered 404"),
    "403": (status(403), "the server answered 403"),
    "a length that is too large": (of_length(len(CONTENT) + 1000), "the connection was lost"),
    "a length that is too small": (
        of_length(len(CONTENT) - 1000),
        "the downloaded file has sha256",
    ),
    "a length of nothing": (of_length(0), "the downloaded file has sha256"),
    "no content": (lambda handler: whole(handler, b""), "the downloaded file has sha256"),
    "another file": (lambda handler: whole(handler, b"<html>"), "the downloaded file has sha256"),
    "no HTTP": (lambda handler: handler.wfile.write(b"SSH-2.0\r\n\r\n"), "the connection was lost"),
    "never": (never, "127.0.0.1 stopped sending"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_server_is_a_clear_line_and_what_was_there_stays(
    name: str, server: Server, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "READ_SECONDS", 0.1)
    monkeypatch.setattr(downloads.time, "sleep", lambda _: None)
    answer, reason = BROKEN[name]
    server.answer = answer
    path = downloads.cached_path(server.url(), context)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"what was there, damaged")
    before = path.stat().st_mtime_ns
    message = failure(server.url(), context, sha256=SHA256)
    assert f"cannot download {server.url()}" in message
    assert reason in message
    assert len(message.splitlines()) == 1
    assert files(context) == [path.name]
    assert path.stat().st_mtime_ns == before
    server.answer = whole
    assert downloads.fetch(server.url(), context, sha256=SHA256).read_bytes() == CONTENT
    assert files(context) == [path.name]


def test_a_server_that_is_slow_but_sends_is_waited_for(
    server: Server, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "READ_SECONDS", 0.2)
    server.answer = slowly
    assert downloads.fetch(server.url(), context, sha256=SHA256).read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_a_disk_that_is_full_in_the_middle_of_a_download_is_told(
    server: Server, context: Context
) -> None:
    with disk_that_takes(100_000):
        message = failure(server.url(), context, ways_out=("--weights F",))
    path = downloads.cached_path(server.url(), context)
    assert f"cannot write {path}: {TOO_LARGE}" in message
    assert files(context) == []
    assert len(server.requests) == 1


def test_what_a_killed_download_left_is_removed_after_a_day(
    server: Server, context: Context
) -> None:
    left = downloads.cached_path(server.url(), context).parent / ".weights.ckpt.x.tmp"
    left.mkdir(parents=True)
    (left / "weights.ckpt").write_bytes(b"half")
    downloads.fetch(server.url(), context)
    assert left.exists(), "another process may write it now"
    for one in (left / "weights.ckpt", left):
        os.utime(one, (1, 1))
    downloads.fetch(server.url("other.ckpt"), context)
    assert not left.exists()


def test_a_page_that_is_not_there_is_asked_for_once(server: Server, context: Context) -> None:
    server.answer = status(404)
    assert "the server answered 404" in failure(server.url(), context)
    assert len(server.requests) == 1


def test_a_server_in_trouble_is_asked_again(server: Server, context: Context) -> None:
    server.answer = status(503)
    assert "the server answered 503" in failure(server.url(), context)
    assert len(server.requests) == downloads.ATTEMPTS
    assert files(context) == []


def test_a_file_with_another_hash_than_the_published_one_is_refused(
    server: Server, context: Context
) -> None:
    message = failure(server.url(), context, sha256="0" * 64)
    assert f"has sha256 {SHA256[:12]}..., not 000000000000..." in message
    assert files(context) == []
    assert len(server.requests) == 1


def test_a_damaged_file_in_the_cache_is_downloaded_again_and_the_user_told(
    server: Server, context: Context, screen: Screen
) -> None:
    path = downloads.fetch(server.url(), context, sha256=SHA256)
    path.write_bytes(CONTENT[:-1])
    screen.lines.clear()
    assert downloads.fetch(server.url(), context, sha256=SHA256).read_bytes() == CONTENT
    assert screen.lines[0] == f"{path} is damaged: msft downloads it again"


def test_without_a_published_hash_the_first_download_is_pinned(
    server: Server, context: Context
) -> None:
    path = downloads.fetch(server.url(), context)
    pin = path.with_name(path.name + ".pin.json")
    assert json.loads(pin.read_text("utf-8")) == {"url": server.url(), "sha256": SHA256}
    server.answer = status(500)
    assert downloads.fetch(server.url(), context) == path
    assert len(server.requests) == 1


def test_a_file_that_changed_since_it_was_pinned_is_refused_until_the_pin_is_deleted(
    server: Server, context: Context
) -> None:
    path = downloads.fetch(server.url(), context)
    pin = path.with_name(path.name + ".pin.json")
    path.unlink()
    server.answer = lambda handler: whole(handler, b"something else")
    message = failure(server.url(), context)
    assert f"delete {pin} to accept a file that differs" in message
    assert files(context) == [pin.name]
    pin.unlink()
    assert downloads.fetch(server.url(), context).read_bytes() == b"something else"


def test_a_file_copied_into_the_cache_by_hand_is_used_and_pinned(
    server: Server, context: Context
) -> None:
    path = downloads.cached_path(server.url(), context)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert downloads.fetch(server.url(), context) == path
    assert server.requests == []
    path.write_bytes(b"changed by accident")
    assert downloads.fetch(server.url(), context).read_bytes() == CONTENT


def test_without_a_network_it_fails_soon_and_says_so(context: Context) -> None:
    start = time.monotonic()
    message = failure("https://nowhere.invalid/a.ckpt", context, ways_out=("one", "two"))
    assert "nowhere.invalid is not found (is there a network?)" in message
    assert message.endswith("\nTry: one; or two.")
    assert "cannot be reached" in failure("http://127.0.0.1:9/a.ckpt", context)
    assert time.monotonic() - start < 30


def test_a_server_that_stops_sending_is_given_up(
    server: Server, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "READ_SECONDS", 0.1)
    release = threading.Event()

    def stall(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"a")
        handler.wfile.flush()
        release.wait(10)

    server.answer = stall
    message = failure(server.url(), context)
    release.set()
    assert "127.0.0.1 stopped sending" in message
    assert files(context) == []


def test_a_local_file_is_copied_into_the_cache(context: Context, tmp_path: Path) -> None:
    source = tmp_path / "with space é.ckpt"
    source.write_bytes(CONTENT)
    path = downloads.fetch(source.as_uri(), context, sha256=SHA256)
    assert path.read_bytes() == CONTENT
    source.unlink()
    assert downloads.fetch(source.as_uri(), context, sha256=SHA256) == path


def test_a_local_file_that_is_missing_is_said_to_be(context: Context, tmp_path: Path) -> None:
    assert "No such file" in failure((tmp_path / "no.ckpt").as_uri(), context)
    assert "directory" in failure(tmp_path.as_uri(), context)


def test_other_kinds_of_address_are_refused(context: Context) -> None:
    assert "only http, https and file" in failure("ftp://127.0.0.1/a", context)
    assert "only http, https and file" in failure("nonsense", context)


def test_a_cache_that_cannot_be_written_is_said_to_be(
    server: Server, context: Context, tmp_path: Path
) -> None:
    context.cache_dir.write_text("a file where the folder should be")
    assert "cannot write" in failure(server.url(), context)


@pytest.mark.parametrize(
    ("url", "ending"),
    [
        ("http://h/a/b%20c.ckpt?x=1", "-b_c.ckpt"),
        ("http://h/", "-file"),
        ("http://h/..", "-file"),
        ("http://h/a/%2e%2e%2fetc%2fpasswd", "-passwd"),
        ("http://h/" + "x" * 500 + ".zip", "x.zip"),
    ],
)
def test_the_name_in_the_cache_is_safe_whatever_the_address(
    url: str, ending: str, context: Context
) -> None:
    path = downloads.cached_path(url, context)
    assert path.parent == context.cache_dir / "downloads"
    assert path.name.endswith(ending)
    assert len(path.name) <= 91


def to(url: str) -> Answer:
    """Redirects, but the address ``/there`` has the file."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/there":
            return whole(handler)
        handler.send_response(302)
        handler.send_header("Location", url)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return None

    return answer


def test_a_redirect_from_this_machine_to_http_elsewhere_is_refused(
    server: Server, context: Context
) -> None:
    for target in (
        "http://192.0.2.1/weights.ckpt",
        "//192.0.2.1/weights.ckpt",
        "ftp://192.0.2.1/a",
    ):
        server.answer = to(target)
        assert "192.0.2.1" in failure(server.url(), context)
        assert "which is not https" in failure(server.url(), context)
    server.answer = to("/there")
    assert downloads.fetch(server.url(), context).read_bytes() == CONTENT
