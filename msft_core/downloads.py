"""Download files once, and know that they are the right ones. Public: plugins use it."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from msft_core.errors import DownloadError
from msft_core.files import sha256_of, write_json

if TYPE_CHECKING:
    from msft_core.types import Context, Reporter

CONNECT_SECONDS = 10
"""How long a server may take to accept a connection."""

READ_SECONDS = 60
"""How long a server may pause in the middle; a slow download that goes on is never cut off."""

ATTEMPTS = 3
"""How often a download that breaks off is begun. One that never began is not tried again."""

_CHUNK = 1 << 16


def fetch(
    url: str,
    context: Context,
    *,
    sha256: str | None = None,
    what: str = "",
    ways_out: Sequence[str] = (),
) -> Path:
    """Download a file into the cache, or find it there.

    A file in the cache whose hash is right is used without touching the network. Where no hash is
    published, that of the first file is written beside it (``*.pin.json``), and a later download
    that differs is refused. A file gets its name only when it is complete and verified.

    Args:
        url: ``http://``, ``https://`` or ``file://``.
        context: cache folder and reporter.
        sha256: the published hash, in hex; None where there is none.
        what: what it is, for messages.
        ways_out: what the user can do when the download fails, each a short phrase.

    Returns: the file in ``context.cache_dir / "downloads"``.

    Raises: DownloadError, one or two lines: what was tried, why it failed, the ways out.
    """
    path = cached_path(url, context)
    pin = path.with_name(path.name + ".pin.json")
    expected = sha256.lower() if sha256 else _read_pin(pin)
    what = what or path.name
    try:
        if path.is_file():
            got = sha256_of(path)
            if expected in (None, got):
                if not expected:
                    _write_pin(pin, url, got)
                return path
            context.reporter.warning(f"{path} is damaged: msft downloads it again")
            path.unlink()
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(url, path, expected, what, context.reporter)
        if not expected:
            _write_pin(pin, url, sha256_of(path))
    except _Failed as failure:
        ways = list(ways_out)
        if isinstance(failure, _Changed) and not sha256:
            ways.insert(0, f"delete {pin} to accept a file that differs from the first download")
        raise DownloadError(_message(url, what, str(failure), ways)) from None
    except OSError as error:
        reason = f"cannot write {path}: {error.strerror or error}"
        raise DownloadError(_message(url, what, reason, ways_out)) from None
    return path


def cached_path(url: str, context: Context) -> Path:
    """Where ``fetch`` keeps the file of this URL: its own name after a short hash of the URL."""
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    name = re.sub(r"[^A-Za-z0-9._-]", "_", name)[-80:].lstrip(".") or "file"
    digest = hashlib.sha256(url.encode()).hexdigest()[:10]
    return context.cache_dir / "downloads" / f"{digest}-{name}"


def why_unreachable(url: str) -> str:
    """Why a file cannot be downloaded here, in a few words; ``""`` where it can.

    Nothing is kept: the server is asked for the head of the answer, or, where it refuses that,
    for the first byte.

    Args:
        url: ``http://`` or ``https://``.
    """
    import requests

    limits = (CONNECT_SECONDS, READ_SECONDS)
    try:
        with _reasons(url):
            if requests.head(url, allow_redirects=True, timeout=limits).ok:
                return ""
            first = {"Range": "bytes=0-0"}
            with requests.get(url, headers=first, stream=True, timeout=limits) as answer:
                answer.raise_for_status()
    except _Failed as failure:
        return str(failure)
    return ""


class _Failed(Exception):
    """Why a download failed, in a few words for the message.

    Args:
        reason: the words.
        again: whether trying again may help.
    """

    def __init__(self, reason: str, *, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


class _Changed(_Failed):
    """A whole file came, but another one."""


def _message(url: str, what: str, reason: str, ways_out: Sequence[str]) -> str:
    line = f"{what}: cannot download {url}: {reason}"
    return f"{line}\nTry: {'; or '.join(ways_out)}." if ways_out else line


def _download(url: str, path: Path, expected: str | None, what: str, reporter: Reporter) -> None:
    """Download to ``path``, where there is nothing yet; a few attempts."""
    import pooch

    def download(url: str, output_file: str, _pooch: object) -> None:
        with ExitStack() as stack:
            bar = _Bar(what, reporter, stack)
            if urlsplit(url).scheme == "file":
                _copy(url, Path(output_file), bar)
            else:
                _http(url, output_file, bar)
        got = sha256_of(Path(output_file))
        if expected and got != expected:
            raise _Changed(f"the downloaded file has sha256 {got[:12]}..., not {expected[:12]}...")

    reporter.info(f"Downloading {what} from {url}")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with _silent_pooch(), _reasons(url):
                # pooch downloads to a temporary name beside the file and moves it when
                # `download` returns. It is not given the hash: it would report a wrong one in a
                # long line, after a second reading.
                pooch.retrieve(url, None, path.name, path.parent, downloader=download)
            return
        except _Failed as failure:
            if not failure.again or attempt == ATTEMPTS:
                raise
            time.sleep(attempt)


def _http(url: str, output_file: str, bar: _Bar) -> None:
    import pooch

    pooch.HTTPDownloader(
        progressbar=bar,
        chunk_size=_CHUNK,
        timeout=(CONNECT_SECONDS, READ_SECONDS),
        # Compressed on the way, the announced length would not be the file's.
        headers={"Accept-Encoding": "identity"},
    )(url, output_file, None)


def _copy(url: str, target: Path, bar: _Bar) -> None:
    source = Path(url2pathname(urlsplit(url).path))
    try:
        with source.open("rb") as reader, target.open("wb") as writer:
            bar.total = source.stat().st_size
            while chunk := reader.read(_CHUNK):
                writer.write(chunk)
                bar.update(len(chunk))
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise _Failed(f"{source}: {error.strerror}") from None


class _Bar:
    """The progress bar that pooch wants, drawn by the reporter."""

    def __init__(self, what: str, reporter: Reporter, stack: ExitStack) -> None:
        self._what = what
        self._reporter = reporter
        self._stack = stack
        self._total = 0
        self._done = 0
        self._advance: Callable[[int], None] = lambda _count: None

    @property
    def total(self) -> int:
        """Bytes to come; 0 where the server does not say. Setting it shows the bar."""
        return self._total

    @total.setter
    def total(self, total: int) -> None:
        self._total = total
        self._advance = self._stack.enter_context(
            self._reporter.progress(f"Downloading {self._what}", total or None, "B")
        )

    def update(self, count: int) -> None:
        """Count bytes; the last chunk is counted as whole, so never beyond the total."""
        if self._total:
            count = min(count, self._total - self._done)
        self._done += count
        self._advance(count)

    def reset(self) -> None:
        """Called when all is there; the bar is not set back."""

    def close(self) -> None:
        """Called at the end; the bar ends with the downloader."""


@contextmanager
def _silent_pooch() -> Iterator[None]:
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _reasons(url: str) -> Iterator[None]:
    """Turn what ``requests`` and ``pooch`` raise into a short reason."""
    import requests

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https", "file"):
        raise _Failed("only http, https and file URLs can be downloaded")
    host = parts.hostname or url
    try:
        yield
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        raise _Failed(f"the server answered {status}", again=status >= 500) from None
    except requests.ConnectTimeout:
        raise _Failed(f"{host} does not answer") from None
    except requests.ReadTimeout:
        raise _Failed(f"{host} stopped sending", again=True) from None
    except requests.exceptions.SSLError:
        raise _Failed(f"the certificate of {host} is not trusted") from None
    except requests.exceptions.ProxyError:
        raise _Failed("the proxy cannot be reached") from None
    except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError):
        raise _Failed("the connection was lost", again=True) from None
    except requests.ConnectionError as error:
        # requests wraps a connection lost in the middle and one never made in the same class.
        text = str(error)
        if "NameResolution" in text or "getaddrinfo" in text or "resolve" in text:
            raise _Failed(f"the host {host} is not found (is there a network?)") from None
        if "Read timed out" in text:
            raise _Failed(f"{host} stopped sending", again=True) from None
        if "establish a new connection" in text:
            raise _Failed(f"{host} cannot be reached") from None
        raise _Failed("the connection was lost", again=True) from None
    except (requests.RequestException, ValueError) as error:
        raise _Failed(
            f"the URL or the server's answer is not valid ({type(error).__name__})"
        ) from None


def _read_pin(pin: Path) -> str | None:
    try:
        value = json.loads(pin.read_text("utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value if isinstance(value, str) else None


def _write_pin(pin: Path, url: str, sha256: str) -> None:
    write_json(pin, {"url": url, "sha256": sha256})
