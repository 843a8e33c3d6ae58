"""Check whether the URLs that plugins download from can be reached."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from msft_core.doctor.findings import Finding
from msft_core.doctor.plugins import Loaded
from msft_core.errors import first_line
from msft_core.system.cache_folder import cache_dir
from msft_core.system.console import PlainReporter
from msft_core.types import Component, Context

URL_SECONDS = 5.0
"""How long a URL may take to answer."""

URLS_AT_ONCE = 32
"""How many URLs are asked for at the same time."""

URLS_ON_A_HOST = 8
"""How many URLs of one host are asked for, since a plugin may list hundreds of networks."""


def check_network(loaded: Loaded) -> Iterator[Finding]:
    """A few URLs of each host."""
    from msft_core.downloads import cached_path

    if loaded.plugins is None:
        yield Finding("urls", "note", "not checked: the plugins could not be loaded", "see plugins")
        return
    users: dict[str, list[Component]] = {}
    for component in loaded.components:
        for url in component.urls:
            if url.startswith(("http://", "https://")):
                users.setdefault(url, []).append(component)
    if not users:
        yield Finding("urls", "ok", "no plugin lists a URL")
        return
    context = Context(0, cache_dir(), PlainReporter(quiet=True))
    users, left_out = _few_on_each_host(users)
    answers = ask_all(list(users))
    for host, count in left_out.items():
        yield Finding(host, "ok", f"{count} more URLs of this host are not checked")
    for url in sorted(users, key=lambda url: urlsplit(url).netloc):
        reason, seconds = answers[url]
        value = {
            "seconds": round(seconds, 3),
            "for": sorted({f"{c.kind} {c.name}" for c in users[url]}),
        }
        if not reason:
            yield Finding(url, "ok", "can be downloaded", value=value)
        elif cached_path(url, context).is_file():
            yield Finding(url, "ok", f"{reason}, but the cache already has the file", value=value)
        else:
            yield Finding(url, "note", reason, _what_helps(users[url]), value)


def _few_on_each_host(
    users: Mapping[str, list[Component]],
) -> tuple[dict[str, list[Component]], dict[str, int]]:
    """The first URLs of each host, and the number of the others, which mostly behave alike."""
    kept: dict[str, list[Component]] = {}
    hosts: Counter[str] = Counter()
    for url, components in users.items():
        host = urlsplit(url).netloc
        hosts[host] += 1
        if hosts[host] <= URLS_ON_A_HOST:
            kept[url] = components
    left_out = {h: count - URLS_ON_A_HOST for h, count in hosts.items() if count > URLS_ON_A_HOST}
    return kept, left_out


def ask_all(
    urls: Sequence[str], *, seconds: float = URL_SECONDS, at_once: int = URLS_AT_ONCE
) -> dict[str, tuple[str, float]]:
    """Ask for each URL, many at the same time.

    Args:
        urls: each once.
        seconds: how long a URL may take to answer.
        at_once: how many are asked for at the same time.

    Returns: by URL why it cannot be downloaded, empty where it can, and the seconds that took.
    """
    from msft_core.downloads import why_unreachable

    answers = dict.fromkeys(urls, (f"no answer within {seconds:.4g} s", seconds))

    def ask(url: str) -> None:
        started = time.monotonic()
        try:
            reason = why_unreachable(url)
        except Exception as error:
            reason = first_line(error)
        answers[url] = (reason, time.monotonic() - started)

    for first in range(0, len(urls), at_once):
        together = urls[first : first + at_once]
        # Looking up a name has no time limit, so a thread may outlive the wait.
        threads = [threading.Thread(target=ask, args=(url,), daemon=True) for url in together]
        deadline = time.monotonic() + seconds
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    return dict(answers)


def _what_helps(users: Sequence[Component]) -> str:
    options = {"dataset": "--data-dir DIR", "backbone": "--weights FILE"}
    giving = sorted({options[c.kind] for c in users if c.kind in options})
    by_hand = f"download it elsewhere and give {' or '.join(giving)}" if giving else "try later"
    return (
        f"{by_hand}; behind a proxy set HTTPS_PROXY; a run with images in a folder and weights in "
        "a file needs no network"
    )
