"""Download files once and check their hashes. Public: plugins use it."""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

from msft_core.errors import DownloadError
from msft_core.files import json_value, remove_leftovers, sha256_of, write_atomically, write_json

if TYPE_CHECKING:
    import requests

    from msft_core.types import Context, Reporter

CONNECT_SECONDS = 10
"""Time limit for a server to accept a connection."""

READ_SECONDS = 60
"""Time limit for a pause of the server. A slow download that continues has no limit."""

ATTEMPTS = 3
"""Number of attempts if a download breaks off. A download that never began has one attempt."""

ALLOW_HTTP = "MSFT_ALLOW_HTTP"
"""Set in the environment, it allows http and redirects from https to http."""

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

    If the cache has the file with the right hash, msft does not use the network. If there is no
    published hash, msft writes the hash of the first file beside it (``*.pin.json``), and refuses a
    later download that differs. A file gets its final name only when it is complete and verified.

    Args:
        url: ``http://``, ``https://`` or ``file://``.
        context: cache folder and reporter.
        sha256: the published hash, in hex; None if there is none.
        what: a name of the file, for messages.
        ways_out: short phrases that tell the user what to do if the download fails.

    Returns: the file in ``context.cache_dir / "downloads"``.

    Raises: DownloadError, one or two lines: the address, the reason, and what to do.
    """
    path = cached_path(url, context)
    pin = path.with_name(path.name + ".pin.json")
    what = what or path.name
    try:
        expected = sha256.lower() if sha256 else _read_pin(pin)
        if path.is_file():
            got = sha256_of(path)
            if expected in (None, got):
                if not expected:
                    _write_pin(pin, url, got)
                return path
            context.reporter.warning(f"{path} is damaged: msft downloads it again")
        path.parent.mkdir(parents=True, exist_ok=True)
        # What is there stays until the new file is whole and verified.
        got = _download(url, path, expected, what, context.reporter)
        if not expected:
            _write_pin(pin, url, got)
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
    """Return the path of this URL's file in the cache: a short hash of the URL, then its name."""
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    name = re.sub(r"[^A-Za-z0-9._-]", "_", name)[-80:].lstrip(".") or "file"
    digest = hashlib.sha256(url.encode()).hexdigest()[:10]
    return context.cache_dir / "downloads" / f"{digest}-{name}"


def why_unreachable(url: str) -> str:
    """Return the reason why a file cannot be downloaded, in a few words; ``""`` if it can.

    Keeps nothing. Sends a HEAD request; if the server refuses it, requests the first byte.

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
    """The reason why a download failed, in a few words for the message.

    Args:
        reason: the text.
        again: whether another attempt may help.
    """

    def __init__(self, reason: str, *, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


class _Changed(_Failed):
    """The download is complete, but its hash is wrong."""


def _message(url: str, what: str, reason: str, ways_out: Sequence[str]) -> str:
    line = f"{what}: cannot download {url}: {reason}"
    return f"{line}\nTry: {'; or '.join(ways_out)}." if ways_out else line


def _download(url: str, path: Path, expected: str | None, what: str, reporter: Reporter) -> str:
    """Download to ``path`` in a few attempts; the SHA-256 of the file."""
    import pooch

    got = ""

    def download(url: str, output_file: str, _pooch: object) -> None:
        nonlocal got
        with ExitStack() as stack:
            bar = _Bar(what, reporter, stack)
            if urlsplit(url).scheme == "file":
                _copy(url, Path(output_file), bar)
            else:
                _http(url, output_file, bar)
        got = sha256_of(Path(output_file))
        if expected and got != expected:
            raise _Changed(f"the downloaded file has sha256 {got[:12]}..., not {expected[:12]}...")

    _require_safe(url)
    reporter.info(f"Downloading {what} from {url}")
    remove_leftovers(path.parent)

    def in_a_few_attempts(beside: Path) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with _silent_pooch(), _reasons(url):
                    # pooch downloads to a temporary name beside the file and moves it when
                    # `download` returns. It is not given the hash: it would report a wrong one in
                    # a long line, after a second reading.
                    pooch.retrieve(url, None, beside.name, beside.parent, downloader=download)
                return
            except _Failed as failure:
                if not failure.again or attempt == ATTEMPTS:
                    raise
                time.sleep(attempt)

    write_atomically(path, in_a_few_attempts)
    return got


def _require_safe(url: str) -> None:
    """Refuse what anyone on the way could change, unless the user allows it.

    Raises:
        _Failed: the URL is http, and its host is not this machine.
    """
    parts = urlsplit(url)
    if parts.scheme == "http" and not _is_here(parts.hostname) and not os.environ.get(ALLOW_HTTP):
        raise _Failed(
            f"http is refused, since anyone on the way could change the file: use https, or set "
            f"{ALLOW_HTTP}=1"
        )


def _is_here(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _refuse_downgrade(answer: requests.Response, **_: object) -> None:
    if not answer.is_redirect or os.environ.get(ALLOW_HTTP):
        return
    target = urlsplit(urljoin(answer.url, answer.headers["location"]))
    # From this machine to another too: there anyone on the way could change the file again.
    here = urlsplit(answer.url).scheme == "http" and _is_here(target.hostname)
    if target.scheme != "https" and not here:
        raise _Failed(f"the server redirects to {target.geturl()}, which is not https")


def _http(url: str, output_file: str, bar: _Bar) -> None:
    import pooch

    pooch.HTTPDownloader(
        progressbar=bar,
        chunk_size=_CHUNK,
        timeout=(CONNECT_SECONDS, READ_SECONDS),
        # Compressed on the way, the announced length would not be the file's.
        headers={"Accept-Encoding": "identity"},
        hooks={"response": _refuse_downgrade},
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
    """The progress bar for pooch, drawn by the reporter."""

    def __init__(self, what: str, reporter: Reporter, stack: ExitStack) -> None:
        self._what = what
        self._reporter = reporter
        self._stack = stack
        self._total = 0
        self._done = 0
        self._advance: Callable[[int], None] = lambda _count: None

    @property
    def total(self) -> int:
        """Size in bytes; 0 if the server does not send it. Setting it shows the bar."""
        return self._total

    @total.setter
    def total(self, total: int) -> None:
        self._total = total
        self._advance = self._stack.enter_context(
            self._reporter.progress(f"Downloading {self._what}", total or None, "B")
        )

    def update(self, count: int) -> None:
        """Count bytes, but never beyond the total: pooch counts the last chunk as a whole one."""
        if self._total:
            count = min(count, self._total - self._done)
        self._done += count
        self._advance(count)

    def reset(self) -> None:
        """Called at the end of the download; keeps the bar as it is."""

    def close(self) -> None:
        """Called at the end; the bar closes with the downloader."""


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
    """Turn an exception of ``requests`` or ``pooch`` into a short reason."""
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
    """The hash of the first download; None where there was none yet.

    Raises:
        _Failed: the pin is there and says nothing: somebody may have emptied it.
    """
    try:
        value = json_value(pin.read_text("utf-8"))["sha256"]
        if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
            return value
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        pass
    raise _Failed(f"{pin} is damaged, so the file cannot be verified: delete it to download anew")


def _write_pin(pin: Path, url: str, sha256: str) -> None:
    write_json(pin, {"url": url, "sha256": sha256})
