"""Read the documentation's blocks, and do what a page says."""

from __future__ import annotations

import os
import re
import shlex
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fork_kit import Forks
from test_scaffold import installed

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
PAGES = [*READMES, *sorted(DOCS.rglob("*.md"))]
REFERENCE = DOCS / "plugins" / "reference.md"
NARRATED = [page for page in sorted((DOCS / "plugins").glob("*.md")) if page != REFERENCE]
"""Pages on which one thing follows from another: their blocks are done in order."""
WALKED = [DOCS / "using.md", DOCS / "evaluating.md", DOCS / "data.md"]
"""The same for users: their Python is run where it stands."""
DEPLOYING = DOCS / "deploying.md"
"""tests/test_deploying.py does what it says."""

_BLOCK = re.compile(r'^```(\w+)(?: title="([^"\n]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_FIGURE = re.compile(r"\d+\.\d+(e-?\d+)?")


@dataclass(frozen=True)
class Block:
    """A block of code of a page.

    Args:
        page: relative to the repository.
        language: after the backquotes.
        title: a file's name, for Python.
        text: its content.
    """

    page: str
    language: str
    title: str
    text: str


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    assert text.count("```") == 2 * len(_BLOCK.findall(text)), f"{name}: an odd block"
    return [Block(name, *found) for found in _BLOCK.findall(text)]


def lines_of(page: Path, language: str) -> list[str]:
    found = [block.text for block in blocks_of(page) if block.language == language]
    return [line for text in found for line in text.splitlines() if line]


def documented_files() -> dict[str, str]:
    """The files that pages show, but for those inside a package."""
    blocks = [block for page in NARRATED for block in blocks_of(page)]
    python = [block for block in blocks if block.language == "python"]
    assert all(block.title for block in python), "a Python block without a file's name"
    flat = [block for block in python if "/" not in block.title]
    assert len({block.title for block in flat}) == len(flat), "two files of one name"
    return {block.title: block.text for block in flat}


@dataclass
class Reader:
    """Somebody who does what a page says.

    Args:
        folder: where they are at first.
        site: stands for the folder that packages are installed into.
        forks: run Python.
        shorten: makes a command small.
    """

    folder: Path
    site: Path
    forks: Forks
    env: dict[str, str] = field(default_factory=dict)
    shorten: Callable[[str], str] | None = None
    _status: int = 0
    _out: str = ""
    _err: str = ""

    def follow(self, page: Path) -> None:
        """Do each block in turn: files are written, commands run, and what is shown compared."""
        before = ""
        for block in blocks_of(page):
            if block.language == "python" and "/" in block.title:
                path = self.folder / block.title
                assert path.parent.is_dir()
                path.write_text(block.text, encoding="utf-8")
            elif block.language == "python" and self.shorten:
                self._expect(0)
                (self.folder / block.title).write_text(block.text, encoding="utf-8")
                self._run([block.title], dict(os.environ))
            elif block.language == "sh":
                self._expect(0)
                self._out = self._err = ""
                for line in block.text.splitlines():
                    self._expect(0)
                    self.do(line)
            elif block.language == "text" and before == "sh":
                self._compare(block)
            before = block.language
        self._expect(0)

    def do(self, line: str) -> None:
        """Do what a command line says, or what comes to the same without a network."""
        words = shlex.split(self.shorten(line) if self.shorten else line)
        env = {**os.environ, "COLUMNS": "400", **self.env}
        while re.fullmatch(r"[A-Z_]+=\w+", words[0]):
            env.update([words.pop(0).split("=")])
        if words[0] == "cd":
            self.folder = self.folder / words[1]
            assert self.folder.is_dir()
            return
        if words[:2] == ["pip", "install"] and self.shorten:
            return  # the tests have it: test_docs.py
        if words[:3] == ["pip", "install", "-e"]:
            self.env.update(installed(self.folder, self.site))
            return
        if words == ["python", "-m", "build"]:
            self._run(["-m", "hatchling", "build"], env)
            self._expect(0)
            (wheel,) = (self.folder / "dist").glob("*.whl")
            names = zipfile.ZipFile(wheel).namelist()
            assert any(name.endswith("/py.typed") for name in names), names
            return
        if words == ["pytest"]:
            self._run(["-m", "pytest", "-q", "-p", "no:cacheprovider"], env)
            assert " passed" in self._out
            return
        assert words[0] == "msft", f"nobody knows how to do this: {line}"
        self._run(["-m", "msft_core", *words[1:]], env)

    def _run(self, python: list[str], env: dict[str, str]) -> None:
        result = self.forks.python(*python, cwd=self.folder, env=env)
        self._status = result.returncode
        self._out += result.stdout
        self._err += result.stderr

    def _compare(self, block: Block) -> None:
        """Each line that a page shows is in the output; ``...`` stands for anything."""
        if block.text.startswith("error: "):
            self._expect(1, 2)
            self._status = 0
        if block.title == "standard error":
            shown = [_FIGURE.sub("0.0", line) for line in block.text.splitlines()]
            ours = set(re.findall(r"^trace: +[<>] ([\w.]+)\.\w+", block.text, re.MULTILINE))
            called = re.findall(r"^(trace: +[<>] ([\w.]+)\.\w+.*)$", self._err, re.MULTILINE)
            # What else is installed here does not matter, nor what comes before the first line.
            traced = [_FIGURE.sub("0.0", line) for line, plugin in called if plugin in ours]
            assert traced[traced.index(shown[0]) :] == shown
            return
        seen = " ".join((self._out + self._err).split())
        for line in block.text.splitlines():
            parts = [r"\s".join(map(re.escape, part.split())) for part in line.split("...")]
            assert re.search(".*?".join(parts), seen), f"{line}\nis not in\n{seen}"

    def _expect(self, *statuses: int) -> None:
        assert self._status in statuses, self._out + self._err
