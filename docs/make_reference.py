"""Write ``plugins/reference.md`` from the source: ``python docs/make_reference.py``.

The source is read, not imported, so this needs neither MindSpore nor an installed msft.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

DOCS = Path(__file__).parent
CORE = DOCS.parent / "msft_core"
PAGE = DOCS / "plugins" / "reference.md"

INTRODUCTION = """
# Reference

This page lists every hook and every public name that a plugin may use. `docs/make_reference.py`
generates it from the docstrings of the source.

A hook may take fewer arguments than listed here. It must use these names, and no argument may have
a default value.
"""

MODULES = {
    "errors": "Each error has a message for the user. `suggest` returns the end of a message.",
    "images": "Tables of encoded images. Imports NumPy and Pillow.",
    "columns": "Sequences of a few bytes an item, for tables of many images. Imports NumPy.",
    "folders": "Class folders on disk. Imports NumPy and Pillow.",
    "packs": "Images in MindRecord shards. Imports NumPy and Pillow.",
    "downloads": "Downloads with a cache and a hash check.",
    "files": "Files that are written whole or not at all.",
    "weights": "Checkpoints. Imports NumPy.",
    "stages": "Parts of a backbone. Imports MindSpore.",
    "onnx": "Networks as ONNX files. Imports MindSpore.",
    "testing": "The test kit, see [Testing a plugin](testing.md). Imports pytest.",
}
"""Public modules besides ``msft_core`` itself."""

NAMES = {
    "errors": "suggest",
    "images": "FileTable MemoryTable subset decode ImageError",
    "folders": """read_splits scan_class_folders files_below sub_folders find_folder
        find_split_roots require_folder TRAIN_NAMES VAL_NAMES TEST_NAMES""",
    "columns": "Column Texts Numbers Rows Hashes FilePaths",
    "packs": "read_pack PackedTable",
    "downloads": "fetch cached_path",
    "files": """write_atomically write_together write_text write_json write_json_lines json_text
        json_value follow_umask folder_beside rename_folder remove_leftovers""",
    "weights": """KnownWeights resolve_weights Checkpoint read_checkpoint drop_bookkeeping load_into
        keeps_head draw_head BOOKKEEPING_NAMES BOOKKEEPING_PREFIXES""",
    "onnx": "write_onnx",
    "stages": "Head Pool Dropout Chain learned_names prefix_names MOVING_STATISTICS",
    "testing": """MsftRun HookRecorder RecordingReporter CommandLine msft_run msft_recorder
        msft_reporter msft_context msft_cli msft_cache assert_dataset assert_backbone
        assert_same_logits assert_strategy assert_callback assert_metric assert_exporter""",
}
NAMES_WITH_VALUES = {
    "API_VERSION",
    "BOOKKEEPING_NAMES",
    "BOOKKEEPING_PREFIXES",
    "TRAIN_NAMES",
    "VAL_NAMES",
    "TEST_NAMES",
    "MOVING_STATISTICS",
}
_IN_OTHER_FILES = {
    "testing": tuple(
        f"testing/{name}"
        for name in (
            "__init__",
            "recording",
            "contract",
            "ports",
            "callbacks",
            "metrics",
            "exporters",
        )
    ),
    "stages": ("stages", "types"),
    "weights": ("weights/finding", "weights/reading", "weights/loading"),
}
# Private, and so meant for the reader of the source alone.
_HIDDEN_FIELDS = re.compile(r"_\w*$")

Definition = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The text of the page."""
    parts = [INTRODUCTION.strip(), "## Hooks", *hooks(), "## `msft_core`", *core()]
    for module, about in MODULES.items():
        parts += [f"## `msft_core.{module}`", about]
        found = definitions(*_IN_OTHER_FILES.get(module, (module,)))
        parts += [section(name, *found[name]) for name in NAMES[module].split()]
    return "\n\n".join(parts) + "\n"


def hooks() -> Iterator[str]:
    """A section for each hook, in the order of ``hookspecs.py``."""
    for name, (node, _) in definitions("hookspecs").items():
        if isinstance(node, ast.FunctionDef) and marked_as_hook(node):
            yield section(name, node, "")


def core() -> Iterator[str]:
    """A section for each name that ``msft_core`` exports, by its module."""
    yield "Importing `msft_core` is fast: the module of a name is imported when you first use it."
    for name, module in exported().items():
        # "settings" has what "types" gives on.
        found = {**definitions("settings"), **definitions(_HOMES.get(module, module))}
        yield section(name, *found[name])


_HOMES = {"config": "config/run_config"}
"""Modules that give on what another one defines."""


def exported() -> dict[str, str]:
    """The names under ``if TYPE_CHECKING`` of ``msft_core``, which are its ``__all__``, each with
    the file that it is imported from.
    """
    tree = ast.parse((CORE / "__init__.py").read_text(encoding="utf-8"))
    return {
        alias.asname: str(node.module).removeprefix("msft_core.").replace(".", "/")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }


def marked_as_hook(node: ast.FunctionDef) -> bool:
    """Whether it carries ``@hookspec``."""
    return any(isinstance(d, ast.Name) and d.id == "hookspec" for d in node.decorator_list)


def definitions(*files: str) -> dict[str, tuple[Definition, str]]:
    """What files of the core define at their top level: the definition, and the text below it."""
    found: dict[str, tuple[Definition, str]] = {}
    for file in files:
        body = ast.parse((CORE / f"{file}.py").read_text(encoding="utf-8")).body
        for node, following in zip(body, [*body[1:], None], strict=True):
            for name in names_of(node):
                assert isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign))
                found[name] = node, text_of(following)
    return found


def names_of(node: ast.stmt) -> list[str]:
    """What a statement defines."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def text_of(node: ast.stmt | None) -> str:
    """The text of a string that stands below an assignment."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return str(node.value.value)
    return ""


def section(name: str, node: Definition, below: str) -> str:
    """Heading, signature and docstring."""
    parts = [f"### `{name}`"]
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        value = ast.unparse(node.value) if node.value else ""
        if name in NAMES_WITH_VALUES:
            parts.append(f"```text\n{name} = {value}\n```")
        return "\n\n".join([*parts, prose(below or _TEXTS.get(name, ""))]).rstrip()
    parts.append(f"```text\n{signature(node)}\n```")
    parts.append(prose(ast.get_docstring(node) or ""))
    if isinstance(node, ast.ClassDef):
        parts += members(node)
    return "\n\n".join(part for part in parts if part)


_TEXTS = {
    "hookimpl": "Marks a function as a hook. With `@hookimpl(tryfirst=True)`, msft calls it before "
    "the same hook of other plugins; with `@hookimpl(trylast=True)`, after them.",
    "Head.NAMES": "names of its parameters, for `load_into(reset=Head.NAMES)`",
}


def signature(node: ast.FunctionDef | ast.ClassDef) -> str:
    """As it would be called; folded where it is long."""
    if isinstance(node, ast.ClassDef):
        bases = [ast.unparse(base) for base in node.bases]
        own = next((f for f in functions(node) if f.name == "__init__"), None)
        if own is not None:
            return folded(node.name, arguments(own)[1:], "")
        if is_dataclass(node):
            return folded(node.name, [without_factory(field) for field in fields(node)], "")
        return f"class {node.name}({', '.join(bases)})"
    if any("fixture" in ast.unparse(decorator) for decorator in node.decorator_list):
        return f"{node.name}: {ast.unparse(node.returns) if node.returns else 'None'}"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return folded(node.name, arguments(node), returns)


def arguments(node: ast.FunctionDef) -> list[str]:
    """Each with its type and default."""
    given = node.args
    texts = []
    padding: list[ast.expr | None] = [None] * (len(given.args) - len(given.defaults))
    for argument, default in zip(given.args, [*padding, *given.defaults], strict=True):
        texts.append(with_default(ast.unparse(argument), default))
    if given.vararg:
        texts.append(f"*{ast.unparse(given.vararg)}")
    elif given.kwonlyargs:
        texts.append("*")
    for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        texts.append(with_default(ast.unparse(argument), default))
    if given.kwarg:
        texts.append(f"**{ast.unparse(given.kwarg)}")
    return texts


def with_default(text: str, default: ast.expr | None) -> str:
    """An argument and what it is where it is not given."""
    return text if default is None else f"{text} = {ast.unparse(default)}"


def folded(name: str, parts: list[str], end: str) -> str:
    """A call on one line where that fits, else an argument a line."""
    line = f"{name}({', '.join(parts)}){end}"
    if len(line) <= 90:
        return line
    return "\n".join([f"{name}(", *(f"    {part}," for part in parts), f"){end}"])


def is_dataclass(node: ast.ClassDef) -> bool:
    """Whether it carries ``@dataclass``."""
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def fields(node: ast.ClassDef) -> list[ast.AnnAssign]:
    """Public annotated attributes."""
    return [
        child
        for child in node.body
        if isinstance(child, ast.AnnAssign) and not _HIDDEN_FIELDS.match(ast.unparse(child.target))
    ]


def without_factory(node: ast.AnnAssign) -> str:
    """A field of a dataclass as an argument: ``field(...)`` by the default it stands for."""
    text = f"{ast.unparse(node.target)}: {ast.unparse(node.annotation)}"
    default = node.value
    if isinstance(default, ast.Call):
        options = {keyword.arg: keyword.value for keyword in default.keywords}
        if "default_factory" in options:
            return f"{text} = {ast.unparse(options['default_factory'])}()"
        default = options.get("default")
    return with_default(text, default)


def functions(node: ast.ClassDef) -> list[ast.FunctionDef]:
    """Methods and properties."""
    return [child for child in node.body if isinstance(child, ast.FunctionDef)]


def members(node: ast.ClassDef) -> list[str]:
    """A list of constants, attributes where they are not the constructor's, and methods."""
    lines = [
        item(ast.unparse(child), _TEXTS.get(f"{node.name}.{name}", ""))
        for child in node.body
        if isinstance(child, ast.Assign)
        for name in names_of(child)
        if name.isupper()
    ]
    bodies = zip(node.body, [*node.body[1:], None], strict=True)
    below = {id(child): text_of(following) for child, following in bodies}
    if not is_dataclass(node):
        lines += [item(ast.unparse(field), below[id(field)]) for field in fields(node)]
        lines += kept_by_the_constructor(node)
    for function in functions(node):
        if function.name.startswith("_") and function.name != "__call__":
            continue
        text = ast.get_docstring(function) or ""
        if text.startswith("See ``"):  # only says whose method it is
            continue
        decorators = [ast.unparse(decorator) for decorator in function.decorator_list]
        returns = ast.unparse(function.returns) if function.returns else "None"
        if "property" in decorators:
            lines.append(item(f"{function.name}: {returns}", text))
        else:
            own = ", ".join(arguments(function)[1:])
            name = "" if function.name == "__call__" else f".{function.name}"
            lines.append(item(f"{name}({own}) -> {returns}", text))
    return ["**Members:**", "\n".join(lines)] if lines else []


def kept_by_the_constructor(node: ast.ClassDef) -> list[str]:
    """Items for the public attributes that ``__init__`` gives a type."""
    own = next((f for f in functions(node) if f.name == "__init__"), None)
    body = own.body if own else []
    return [
        item(f"{child.target.attr}: {ast.unparse(child.annotation)}", text_of(following))
        for child, following in zip(body, [*body[1:], None][: len(body)], strict=True)
        if isinstance(child, ast.AnnAssign)
        and isinstance(child.target, ast.Attribute)
        and not child.target.attr.startswith("_")
    ]


def item(code: str, text: str) -> str:
    """An item of a list."""
    first = " ".join(text.split("\n\n")[0].split())
    return f"- `{code}`" + (f": {marked(first)}" if first else "")


def prose(text: str) -> str:
    """A docstring as Markdown: paragraphs, and a paragraph or a list for each of its parts."""
    blocks = []
    for paragraph in dedent(text).strip().split("\n\n"):
        lines = paragraph.splitlines()
        while lines:
            heading, _, rest = lines[0].partition(":")
            if re.fullmatch(r"Args|Called|Returns|Raises|Since", heading):
                size = next(
                    (
                        number
                        for number, line in enumerate(lines)
                        if number and re.match(r"(Args|Called|Returns|Raises|Since):", line)
                    ),
                    len(lines),
                )
                inner = [rest.strip(), *lines[1:size]]
                lines = lines[size:]
                blocks.append(part(heading, [line for line in inner if line]))
            else:
                size = next(
                    (
                        number
                        for number, line in enumerate(lines)
                        if re.match(r"(Args|Called|Returns|Raises|Since):", line)
                    ),
                    len(lines),
                )
                blocks.append(marked(" ".join(line.strip() for line in lines[:size])))
                lines = lines[size:]
    return "\n\n".join(blocks)


def part(heading: str, lines: list[str]) -> str:
    """``Args:`` and the like; indented items with a colon become a list."""
    items: list[str] = []
    if lines and re.match(r"    [\w, ]+: ", lines[0]):
        for line in lines:
            if re.match(r"    \S", line):
                name, _, text = line.strip().partition(": ")
                items.append(f"- `{name}`: {text}")
            else:
                items[-1] += f" {line.strip()}"
        return f"**{heading}:**\n\n" + "\n".join(marked(one) for one in items)
    return f"**{heading}:** " + marked(" ".join(line.strip() for line in lines))


def marked(text: str) -> str:
    """Code as Markdown has it."""
    return text.replace("``", "`")


if __name__ == "__main__":
    main()
