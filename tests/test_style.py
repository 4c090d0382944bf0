"""How code is written: ruff's rules, lengths of files and lines, comprehensions, notebook cells.

Each check comes with a test that it notices a violation.
"""

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1]
MAX_LINES = 350


def ruff(*arguments, folder=HOUSE):
    """The exit code of ruff, and what it printed; ruff is the one installed beside this Python."""
    command = [Path(sys.executable).parent / "ruff", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8")
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [("check",), ("format", "--check")], ids=["check", "format"])
def test_ruff_is_content(arguments):
    code, said = ruff(*arguments, "minidream", "tests", "notebooks")
    assert code == 0, said


@pytest.mark.parametrize(
    "source, complaint",
    [
        ("import os\n", "F401"),
        ("a = 1; b = 2\n", "E702"),
        (f"text = '{'x' * 100}'\n", "E501"),
        ("print(undefined)\n", "F821"),
    ],
)
def test_ruff_notices_a_violation(tmp_path, source, complaint):
    (tmp_path / "wrong.py").write_text(source, encoding="utf-8")
    code, said = ruff("check", "--config", str(HOUSE / "pyproject.toml"), ".", folder=tmp_path)
    assert code == 1 and complaint in said


def test_ruff_notices_what_is_not_formatted(tmp_path):
    (tmp_path / "wrong.py").write_text("a=[1,2]\n", encoding="utf-8")
    config = str(HOUSE / "pyproject.toml")
    code, said = ruff("format", "--check", "--config", config, ".", folder=tmp_path)
    assert code == 1 and "wrong.py" in said


def long_files(folder):
    """{name: lines} of the Python files with more than `MAX_LINES` lines."""
    counts = {
        str(path.relative_to(folder)): len(path.read_text(encoding="utf-8").splitlines())
        for path in folder.rglob("*.py")
    }
    return {name: count for name, count in counts.items() if count > MAX_LINES}


def test_no_file_of_the_library_is_long():
    assert not long_files(HOUSE / "minidream")


def test_a_long_file_is_noticed(tmp_path):
    (tmp_path / "short.py").write_text("pass\n" * MAX_LINES, encoding="utf-8")
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "long.py").write_text("pass\n" * (MAX_LINES + 1), encoding="utf-8")
    assert long_files(tmp_path) == {"room/long.py": MAX_LINES + 1}


def code_of_notebook(path):
    """The source of every code cell; magics become comments."""
    cells = json.loads(path.read_bytes())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return [re.sub(r"^(\s*)[%!]", r"\1# ", source, flags=re.MULTILINE) for source in sources]


NOTEBOOKS = sorted((HOUSE / "notebooks").glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def deep_comprehensions(source):
    """Lines of comprehensions with more than two `for`, those of nested comprehensions included."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, COMPREHENSIONS)
        and sum(isinstance(child, ast.comprehension) for child in ast.walk(node)) > 2
    ]


def crowded_lines(source):
    """Lines on which more than one statement begins."""
    statements = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)]
    counts = Counter(node.lineno for node in statements)
    return sorted(line for line, count in counts.items() if count > 1)


def python_files():
    return sorted([*(HOUSE / "minidream").rglob("*.py"), *(HOUSE / "tests").rglob("*.py")])


def test_no_comprehension_has_more_than_two_loops():
    found = [
        f"{path.relative_to(HOUSE)}:{line}"
        for path in python_files()
        for line in deep_comprehensions(path.read_text(encoding="utf-8"))
    ]
    assert not found


@every_notebook
def test_cells_are_simple_lines(path):
    for source in code_of_notebook(path):
        assert not crowded_lines(source), f"one statement per line:\n{source}"
        assert not deep_comprehensions(source), f"at most two `for` in a comprehension:\n{source}"
        assert max(map(len, source.splitlines()), default=0) <= 100, source


def test_deep_comprehensions_and_crowded_lines_are_noticed():
    assert not deep_comprehensions("[x for row in table for x in row]")
    assert deep_comprehensions("a = 1\n[x for page in book for row in page for x in row]") == [2]
    assert deep_comprehensions("{k: [x for r in t for x in r] for k, t in tables}") == [1]
    assert not crowded_lines("if a:\n    b = 1\nelse:\n    b = (\n        2\n    )")
    assert crowded_lines("a = 1; b = 2\nif a: b = 3\nc = 4") == [1, 2]


def encodingless(source):
    """Lines that read or write text with the encoding of the machine instead of a named one."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and opens_text(node) and not names_encoding(node)
    ]


def opens_text(call):
    """Whether a call opens a text file, or reads the output of a program as text."""
    name = ast.unparse(call.func)
    last = name.rsplit(".", 1)[-1]
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if last in ("read_text", "write_text"):
        return True
    if last in ("run", "Popen", "check_output"):
        return bool({"text", "universal_newlines"} & keywords.keys())
    if last not in ("open", "fdopen") or name in ("Image.open", "os.open"):
        return False
    first_is_path = name in ("open", "io.open", "os.fdopen")
    modes = [*call.args[first_is_path : first_is_path + 1], keywords.get("mode")]
    return not any(isinstance(mode, ast.Constant) and "b" in str(mode.value) for mode in modes)


def names_encoding(call):
    return any(keyword.arg == "encoding" for keyword in call.keywords)


def test_no_text_is_read_or_written_in_the_encoding_of_the_machine():
    files = sorted((HOUSE / "minidream").rglob("*.py"))
    sources = {path.name: [path.read_text(encoding="utf-8")] for path in files}
    sources |= {path.name: code_of_notebook(path) for path in NOTEBOOKS}
    found = [
        f"{name}:{line}"
        for name, parts in sources.items()
        for line in encodingless("\n".join(parts))
    ]
    assert not found


def test_text_without_an_encoding_is_noticed():
    for wrong in (
        "path.read_text()",
        "path.write_text(text)",
        "open(path)",
        "open(path, 'w')",
        "path.open('a')",
        "os.fdopen(number, mode='w')",
        "subprocess.run(command, text=True)",
    ):
        assert encodingless(f"a = 1\n{wrong}") == [2], wrong
    for right in (
        "path.read_text(encoding='utf-8')",
        "open(path, 'rb')",
        "path.open(mode='wb')",
        "path.open('w', encoding='utf-8')",
        "Image.open(path)",
        "os.open(path, os.O_RDONLY)",
        "path.read_bytes()",
    ):
        assert not encodingless(right), right
