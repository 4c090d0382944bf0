"""The API reference of the book, in MyST Markdown: a page for each room of the package.

Docstrings are read from the source with `ast`, so that the package is not imported.
They are written in Markdown; only their sections ("Args:" and so on) become lists.
"""

import ast
import re
from functools import cache
from inspect import cleandoc
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "minidream"
README = PACKAGE.parent / "README.md"
# These are solutions of exercises; a student should not come upon them here.
LEFT_OUT = PACKAGE / "course" / "references"
SECTION = re.compile(
    r"^(Args|Attributes|Returns|Yields|Raises):\n((?: .*\n|\n)*)", re.MULTILINE
)
ENTRY = re.compile(r"(\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*): (.+)", re.DOTALL)


def sources() -> dict[str, str]:
    """{name: Markdown} of pages that show the files of the model, in reading order."""
    readme = README.read_text(encoding="utf-8")
    names = re.findall(r"^\| \[`(\w+)\.py`\]", readme, re.MULTILINE)
    shown = "{literalinclude} /minidream/%s.py\n:language: python\n:linenos:"
    return {name: f"# `{name}.py`\n\n```{shown % name}\n```\n" for name in names}


def pages() -> dict[str, str]:
    """{name: Markdown} of the model, then of the rooms in the README's order."""
    readme = README.read_text(encoding="utf-8")
    rooms = re.findall(r"^\| `(\w+)/` \|", readme, re.MULTILINE)
    files = [PACKAGE / f"{name}.py" for name in ("__init__", *sources())]
    found = {"model": page("The model", files)}
    for room in rooms:
        files = sorted((PACKAGE / room).rglob("*.py"))
        shown = [path for path in files if not path.is_relative_to(LEFT_OUT)]
        found[room] = page(f"`{room}`", shown)
    return found


def page(title: str, files: list[Path]) -> str:
    """A title, and what the files define; command lines (`__main__`) are left out."""
    parts = [module_of(path) for path in files if path.stem != "__main__"]
    return "\n\n".join([f"# {title}", *parts]) + "\n"


def name_of(path: Path) -> str:
    """The name under which a file of the package is imported."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def module_of(path: Path) -> str:
    """A heading, the docstring of a file, and all that it defines."""
    name, tree = name_of(path), parsed(path)
    about = markdown(ast.get_docstring(tree) or "")
    parts = [f"## `{name}`", fenced("py:module", name, "", 3), about]
    text = "\n\n".join([*parts, *definitions(tree, 4)])
    return re.sub(
        r"^`+\{py:.+$", lambda line: qualified(line[0], path), text, flags=re.M
    )


def qualified(line: str, path: Path) -> str:
    """A signature in which types of the package have the names of their modules.

    Without them, a link could lead to another class of the same name.
    """
    head, bracket, rest = line.partition("(")
    known = classes(path)
    # Not in defaults, which are no links and would only become longer.
    named = re.sub(
        r"(?<![\w.=])[A-Z]\w*", lambda name: known.get(name[0], name[0]), rest
    )
    return head + bracket + named


@cache
def classes(path: Path) -> dict[str, str]:
    """{name: full name} of the package's classes that a file defines or imports."""
    found = {}
    for node in parsed(path).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = f"{name_of(path)}.{node.name}"
        elif isinstance(node, ast.ImportFrom) and node.level and node.module:
            folder = path.parents[node.level - 1]
            target = folder.joinpath(*node.module.split("."))
            target = (
                target / "__init__.py" if target.is_dir() else target.with_suffix(".py")
            )
            there = classes(target)
            names = {alias.asname or alias.name: alias.name for alias in node.names}
            found |= {name: there[own] for name, own in names.items() if own in there}
    return found


def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def definitions(tree: ast.Module, fence: int) -> list[str]:
    """The public functions and classes of a file, in its order."""
    found = []
    for node in public(tree.body):
        about = markdown(ast.get_docstring(node))
        if isinstance(node, ast.ClassDef):
            methods = [method(each, fence) for each in public(node.body)]
            content = "\n\n".join([about, *methods])
            heading = f"{node.name}({ast.unparse(fields(node))})"
            found.append(fenced("py:class", heading, content, fence + 1))
        else:
            found.append(fenced("py:function", signature(node), about, fence))
    return found


def public(body: list[ast.stmt]) -> list:
    """Functions and classes with a docstring whose names do not begin with "_"."""
    kinds = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef
    named = [node for node in body if isinstance(node, kinds)]
    return [node for node in named if node.name[0] != "_" and ast.get_docstring(node)]


def signature(node: ast.FunctionDef) -> str:
    """As it is written: name, arguments, and what is returned."""
    # A type in quotes is one that is not defined yet.
    returned = f" -> {ast.unparse(node.returns).strip(chr(39))}" if node.returns else ""
    return f"{node.name}({ast.unparse(node.args)}){returned}"


def method(node: ast.FunctionDef | ast.ClassDef, fence: int) -> str:
    """A method, a property, or a class inside of a class."""
    about = markdown(ast.get_docstring(node))
    if isinstance(node, ast.ClassDef):
        return fenced("py:class", node.name, about, fence)
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    if any("property" in each for each in decorators):
        kind = f":type: {ast.unparse(node.returns)}\n\n" if node.returns else ""
        return fenced("py:property", node.name, kind + about, fence)
    if "staticmethod" in decorators:
        return fenced("py:staticmethod", signature(node), about, fence)
    node.args.args = node.args.args[1:]  # without self
    if "classmethod" in decorators:
        return fenced("py:classmethod", signature(node), about, fence)
    return fenced("py:method", signature(node), about, fence)


def fields(node: ast.ClassDef) -> ast.arguments:
    """What a class is called with: arguments of `__init__`, or a dataclass's fields."""
    none = ast.arguments([], [], None, [], [], None, [])
    for each in node.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            each.args.args = each.args.args[1:]
            return each.args
    if not any("dataclass" in ast.unparse(each) for each in node.decorator_list):
        return none
    declared = [each for each in node.body if isinstance(each, ast.AnnAssign)]
    none.args = [ast.arg(each.target.id, each.annotation) for each in declared]
    none.defaults = list(filter(None, (default(each.value) for each in declared)))
    return none


def default(value: ast.expr | None) -> ast.expr | None:
    """The default of a field; that of `field(default_factory=list)` is `list()`."""
    made = isinstance(value, ast.Call) and ast.unparse(value.func)
    if made not in ("field", "option"):
        return value
    named = {keyword.arg: keyword.value for keyword in value.keywords}
    if "default_factory" in named:
        return ast.Call(named["default_factory"], [], [])
    return value.args[0] if value.args else named.get("default")


def fenced(directive: str, argument: str, content: str, fence: int) -> str:
    """A directive of MyST; the fence is longer than those inside of it."""
    ticks = "`" * fence
    return f"{ticks}{{{directive}}} {argument}\n{content}\n{ticks}"


# ------------------------------------------------------------------------------------
# Docstrings


def markdown(docstring: str) -> str:
    """A docstring as Markdown; sections and attributes become lists."""
    # The first sentence may look like an attribute: "probes: how to look inside".
    first, _, rest = cleandoc(docstring).partition("\n\n")
    pieces, end, text = [escaped(first)], 0, rest + "\n"
    for section in SECTION.finditer(text):
        title, content = section[1], cleandoc(section[2])
        listed = title not in ("Returns", "Yields")
        below = entries(content) if listed else escaped(content)
        pieces += [prose(text[end : section.start()]), f"**{title}**", below]
        end = section.end()
    pieces.append(prose(text[end:]))
    return "\n\n".join(piece for piece in pieces if piece)


def prose(text: str) -> str:
    """Paragraphs; one that has a name on each line describes attributes."""
    return "\n\n".join(
        f"**Attributes**\n\n{entries(paragraph)}"
        if lists_attributes(paragraph)
        else escaped(paragraph)
        for paragraph in re.split(r"\n{2,}", text.strip("\n"))
    )


def lists_attributes(paragraph: str) -> bool:
    """Whether every line that is not indented is "name: what it is"."""
    lines = [line for line in paragraph.splitlines() if not line.startswith(" ")]
    return bool(lines) and all(
        re.match(r"[a-z]\w*(, [a-z]\w*)*: ", line) for line in lines
    )


def entries(text: str) -> str:
    """A list: each line that is not indented begins an entry, "name: what it is"."""
    found: list[str] = []
    for line in filter(str.strip, text.splitlines()):
        if line.startswith(" ") and found:
            found[-1] += f"\n{line.strip()}"
        else:
            found.append(line)
    return "\n".join(f"- {entry(each)}" for each in found)


def entry(text: str) -> str:
    """One entry; the names in it become code."""
    match = ENTRY.fullmatch(text)
    if not match:
        return escaped(text).replace("\n", "\n  ")
    names = ", ".join(f"`{name}`" for name in match[1].split(", "))
    return f"{names}: {escaped(match[2])}".replace("\n", "\n  ")


def escaped(text: str) -> str:
    """Text in which "<s>" is no tag, and "$" no formula; code is left as it is."""
    return re.sub(r"(`[^`]*`)|([<$])", lambda match: match[1] or rf"\{match[2]}", text)
