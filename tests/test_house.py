"""The house keeps its own rules: which versions to install, and which room may import which.

Three groups of people read three files that say what to install: pip reads pyproject.toml (lower
bounds), make reads constraints.txt (the tested versions), conda and Binder read environment.yml (a
copy of the direct pins, since conda has no constraints). The files must not contradict one another.
The other checks read imports and the README. Each comes with a test that it notices a violation.
How code is written is checked in test_style.py.
"""

import ast
import os
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

HOUSE = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]


def requirements(lines):
    """{canonical name: Requirement}; a name that is listed twice is an error."""
    found = {}
    for line in lines:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        assert name not in found, f"{name} is listed twice"
        found[name] = requirement
    return found


def exact_version(requirement):
    """The one version that a pin allows."""
    (specifier,) = requirement.specifier
    assert specifier.operator == "==" and "*" not in specifier.version, (
        f"{requirement} is no exact pin"
    )
    return Version(specifier.version)


def lower_bound(requirement):
    (specifier,) = requirement.specifier
    assert specifier.operator == ">=", f"{requirement}: pyproject.toml holds lower bounds only"
    return Version(specifier.version)


DEPENDENCIES = requirements(PROJECT["dependencies"])
EVERYTHING_ASKED_FOR = requirements(PROJECT["dependencies"] + sum(EXTRAS.values(), []))
PINS = requirements(
    line
    for line in (HOUSE / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line.strip() and not line.startswith("#")
)


def conda_environment():
    """(what conda installs, what pip installs inside it)"""
    entries = yaml.safe_load((HOUSE / "environment.yml").read_text(encoding="utf-8"))[
        "dependencies"
    ]
    (pip,) = [entry["pip"] for entry in entries if isinstance(entry, dict)]
    return [entry for entry in entries if isinstance(entry, str)], pip


@pytest.mark.parametrize("name", EVERYTHING_ASKED_FOR)
def test_every_direct_dependency_is_pinned_at_or_above_its_lower_bound(name):
    assert name in PINS, f"constraints.txt does not pin {name}"
    assert exact_version(PINS[name]) >= lower_bound(EVERYTHING_ASKED_FOR[name])


def test_the_bounds_that_the_code_leans_on():
    assert lower_bound(DEPENDENCIES["torch"]) == Version("2.6")
    assert lower_bound(DEPENDENCIES["transformers"]) == Version("5.6")
    # Its operators are compiled against one torch, a second way to get CUDA by the gigabyte; Pillow
    # is enough for us.
    assert "torchvision" not in EVERYTHING_ASKED_FOR and "torchvision" not in PINS


def test_the_pins_serve_machines_with_and_without_a_gpu():
    for name, pin in PINS.items():
        # 2.13.0+cpu exists in some places only; 2.13.0 is satisfied by the CPU build and by the
        # CUDA build alike.
        assert exact_version(pin).local is None, f"{pin} names a local version"
        # These come and go with torch's CUDA build, which brings the versions that it wants.
        assert not name.startswith(("nvidia", "cuda", "triton")), (
            f"{pin} is for one kind of machine"
        )
        assert pin.url is None and pin.marker is None and not pin.extras, (
            f"{pin} is more than a pin"
        )


def test_the_pins_leave_the_installer_and_ourselves_out():
    # Pinning pip or setuptools would change the tool in the middle of its work; minidream comes
    # from this folder.
    assert PINS.keys().isdisjoint({"pip", "setuptools", "wheel", "minidream"})


def test_conda_gets_the_same_versions_as_make():
    _, pip = conda_environment()
    # Without this entry `import minidream` fails on Binder, where notebooks run in notebooks/.
    assert pip[-1] == "-e ."
    copied = requirements(pip[:-1])
    wanted = PROJECT["dependencies"] + EXTRAS["test"] + EXTRAS["tune"]
    assert copied.keys() == requirements(wanted).keys()
    for name, pin in copied.items():
        assert exact_version(pin) == exact_version(PINS[name]), (
            f"environment.yml and constraints.txt differ on {name}"
        )


def test_conda_brings_python_and_pip_and_nothing_else():
    # A package from both conda and pip is installed twice, and the later one breaks the earlier
    # one's files.
    conda, _ = conda_environment()
    assert conda == ["python=3.11", "pip"]
    assert PROJECT["requires-python"] == ">=3.11"
    assert "Python 3.11" in (HOUSE / "constraints.txt").read_text(encoding="utf-8").splitlines()[0]


def test_uv_gets_the_same_versions_as_make():
    lock = requirements(
        line
        for line in (HOUSE / "requirements.lock").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    )
    extra = {name for name in PINS if name not in lock}
    assert extra <= requirements(EXTRAS["int8"]).keys(), f"requirements.lock lacks {extra}"
    for name, pin in lock.items():
        if name in PINS:
            assert exact_version(pin) == exact_version(PINS[name]), (
                f"requirements.lock and constraints.txt differ on {name}"
            )
        else:  # what other systems than the tested one, or older Pythons, need
            assert pin.marker is not None, f"{name} is in requirements.lock and not in constraints"
        assert not name.startswith(("nvidia", "cuda", "triton")) and pin.url is None


def test_the_version_can_be_read_without_importing_torch():
    # pip builds us in a bare environment: setuptools reads the version as a literal, or imports the
    # package and fails.
    assert PROJECT["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {
        "attr": "minidream.__version__"
    }
    package = ast.parse((HOUSE / "minidream" / "__init__.py").read_text(encoding="utf-8"))
    (literal,) = [
        node.value
        for node in package.body
        if isinstance(node, ast.Assign)
        and [target.id for target in node.targets if isinstance(target, ast.Name)]
        == ["__version__"]
    ]
    assert Version(ast.literal_eval(literal)).local is None


def test_campaigns_are_left_out_unless_they_are_asked_for():
    assert "-m 'not slow'" in PYPROJECT["tool"]["pytest"]["ini_options"]["addopts"]
    for path in (HOUSE / "tests" / "campaigns").glob("test_*.py"):
        assert "\npytestmark = pytest.mark.slow\n" in path.read_text(encoding="utf-8"), path.name


def test_an_installed_package_has_every_file_of_the_folder():
    # An editable install sees all files, so that only users of a wheel would notice that the
    # weights are missing.
    folder = HOUSE / "minidream"
    modules = {path for path in folder.rglob("*.py")}
    shipped = {
        path
        for pattern in PYPROJECT["tool"]["setuptools"]["package-data"]["minidream"]
        for path in folder.glob(pattern)
    }
    ignored = {path for path in folder.rglob("*") if path.is_dir() or "__pycache__" in path.parts}
    left_out = set(folder.rglob("*")) - modules - shipped - ignored
    assert not left_out, f"no pattern of package-data covers {sorted(map(str, left_out))}"
    # A module in a folder without __init__.py is left out as well.
    lost = {path for path in modules if not (path.parent / "__init__.py").exists()}
    assert not lost, f"these modules are in no package: {sorted(map(str, lost))}"


def test_ci_runs_the_command_that_the_readme_gives():
    script = HOUSE / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.search(r"^make test\b", script.read_text(encoding="utf-8"), re.MULTILINE)
    assert re.search(
        r"^\s*make test\b", (HOUSE / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )


# --------------------------------------------------------------------------------------------------
# Imports

# The nine files of the model, in reading order: each may import those before it.
MODEL = (
    "images",
    "tokenizers",
    "documents",
    "llm",
    "vision",
    "dream_queries",
    "diffusion",
    "generate",
    "model",
)
FRONT_DOOR = ""  # minidream/__init__.py, which may import everything
MAY_IMPORT = {
    "model": set(),
    "world": {"images"},
    "data": {"documents", "images"},
    "plots": {"model", "world"},
    "weights": {"model", "world"},
    "probe": {"model", "world", "plots", "weights"},
    "trainer": {"model", "world", "plots", "weights"},
    "tuning": {"model", "data", "weights", "trainer"},
    "train": {"model", "world", "plots", "weights", "trainer", "tuning"},
    "families": {"model", "world", "plots", "weights", "trainer", "train"},
}
MAY_IMPORT["studies"] = set(MAY_IMPORT) | {FRONT_DOOR}
MAY_IMPORT["course"] = set(MAY_IMPORT) | {FRONT_DOOR}


def module_sources():
    """{module name relative to the package: source}; a package has the name of its folder."""
    found = {}
    for path in (HOUSE / "minidream").rglob("*.py"):
        parts = path.relative_to(HOUSE / "minidream").with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        found[name] = (path.read_text(encoding="utf-8"), is_package)
    return found


def imported_modules(name, source, is_package, known):
    """The modules of the package that a module imports anywhere, also inside functions."""
    parts = name.split(".") if name else []
    package = parts if is_package else parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(source)):
        targets = []
        if isinstance(node, ast.ImportFrom):
            base = node.module.split(".") if node.module else []
            if node.level:
                base = package[: len(package) - (node.level - 1)] + base
            elif base[0] == "minidream":
                base = base[1:]
            else:
                continue
            for alias in node.names:
                module = ".".join([*base, alias.name])
                targets.append(module if module in known else ".".join(base))
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            targets = [
                name.removeprefix("minidream").lstrip(".")
                for name in names
                if name.split(".")[0] == "minidream"
            ]
        found.update(targets)
    return found - {name}


def room_of(module):
    return "model" if module in MODEL else module.split(".")[0]


def wrong_imports(modules):
    """Every import that runs upwards, and every module that imports itself in a circle."""
    edges = {
        name: imported_modules(name, source, is_package, modules)
        for name, (source, is_package) in modules.items()
    }
    wrong = []
    for name in sorted(edges.keys() - {FRONT_DOOR}):
        room = room_of(name)
        for target in sorted(edges[name]):
            if room == "model" and target in MODEL:
                allowed = MODEL.index(target) < MODEL.index(name)
            else:
                may = MAY_IMPORT[room]
                allowed = room_of(target) == room or target in may or room_of(target) in may
            if not allowed:
                wrong.append(f"{name} imports {target or 'the front door'}")
    return wrong + [
        f"{name} imports itself in a circle" for name in edges if in_circle(name, edges)
    ]


def in_circle(name, edges):
    reached, waiting = set(), list(edges[name])
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += edges.get(module, ())
    return name in reached


def test_imports_run_downwards_and_never_in_circles():
    assert not wrong_imports(module_sources())


@pytest.mark.parametrize(
    "name, source, is_package, wrong",
    [
        ("llm", "from .model import DreamLLM", False, "llm imports model"),
        ("images", "def f():\n    from . import documents", False, "images imports documents"),
        ("world.new", "from ..llm import LLM", False, "world.new imports llm"),
        ("data.new", "from ..trainer.loop import fit", False, "data.new imports trainer.loop"),
        ("data.new", "from ..tokenizers import BASIC", False, "data.new imports tokenizers"),
        ("plots.new", "import minidream.probe.lens", False, "plots.new imports probe.lens"),
        ("train.new", "from minidream.probe import lens", False, "train.new imports probe.lens"),
        ("weights.new", "from .. import __version__", False, "weights.new imports the front door"),
        ("studies.new", "from ..course.demo import main", False, "studies.new imports course.demo"),
        ("probe", "from ..families import lora", True, "probe imports families.lora"),
    ],
)
def test_an_upward_import_is_noticed(name, source, is_package, wrong):
    assert wrong in wrong_imports(module_sources() | {name: (source, is_package)})


def test_a_circle_is_noticed():
    circle = {
        "plots.first": ("from .second import x", False),
        "plots.second": ("def f():\n    from .third import y", False),
        "plots.third": ("from . import first", False),
    }
    found = wrong_imports(module_sources() | circle)
    assert found == [
        f"plots.{name} imports itself in a circle" for name in ("first", "second", "third")
    ]


def test_allowed_imports_are_not_refused():
    allowed = {
        "world.new": ("from ..images import to_pil\nfrom .scenes import Scene", False),
        "course.new": ("import minidream\nfrom minidream.studies import results", False),
        "studies.new": ("import torch\nfrom ..probe import lens", False),
    }
    assert not wrong_imports(module_sources() | allowed)


def test_the_top_of_the_package_is_the_model():
    top = {path.stem for path in (HOUSE / "minidream").glob("*.py")}
    assert top == {"__init__", "__main__", *MODEL}  # the front door, and the command line
    rooms = {path.parent.name for path in (HOUSE / "minidream").glob("*/__init__.py")}
    assert rooms | {"model"} == MAY_IMPORT.keys()


# --------------------------------------------------------------------------------------------------
# The README's reading order


def reading_order(readme):
    """[(file, stated lines)] from the rows of the README's table of the model."""
    rows = re.findall(r"^\| \[`(\w+)\.py`\]\(minidream/\1\.py\) \| (\d+) \|", readme, re.MULTILINE)
    return [(name, int(lines)) for name, lines in rows]


def wrong_counts(rows):
    """Files whose stated number of lines is more than 10 off."""
    return [name for name, stated in rows if abs(lines_of(f"{name}.py") - stated) > 10]


def lines_of(name):
    return len((HOUSE / "minidream" / name).read_text(encoding="utf-8").splitlines())


def test_the_readme_lists_the_model_in_reading_order_with_its_lines():
    readme = (HOUSE / "README.md").read_text(encoding="utf-8")
    rows = reading_order(readme)
    assert [name for name, _ in rows] == list(MODEL)
    assert not wrong_counts(rows)
    (total,) = re.findall(r"about ([\d,]+) lines", readme)
    assert abs(int(total.replace(",", "")) - sum(lines_of(f"{name}.py") for name in MODEL)) <= 100


def test_a_stale_count_and_a_missing_row_are_noticed():
    stale = lines_of("llm.py") + 11
    assert wrong_counts([("llm", stale), ("model", lines_of("model.py"))]) == ["llm"]
    assert reading_order("| [`llm.py`](minidream/llm.py) | 7 | x |\n| `model.py` | 8 |") == [
        ("llm", 7)
    ]
