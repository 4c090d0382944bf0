"""The files that say what to install must not contradict one another: three people read three of them.

pyproject.toml is read by pip (lower bounds), constraints.txt by make (the versions that were tested), environment.yml
by conda and Binder (a copy of the direct pins, since conda knows no constraints).
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
    """{canonical name: Requirement}; a name that stands twice is an error: which of the two is meant?"""
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
EVERYTHING_ASKED_FOR = requirements(PROJECT["dependencies"] + EXTRAS["test"] + EXTRAS["int8"])
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
    # Its operators are compiled against one torch, a second way to get CUDA by the gigabyte; Pillow is enough for us.
    assert "torchvision" not in EVERYTHING_ASKED_FOR and "torchvision" not in PINS


def test_the_pins_serve_machines_with_and_without_a_gpu():
    for name, pin in PINS.items():
        # 2.13.0+cpu exists in some places only; 2.13.0 is satisfied by the CPU build and by the CUDA build alike.
        assert exact_version(pin).local is None, f"{pin} names a local version"
        # These come and go with torch's CUDA build, which brings the versions that it wants.
        assert not name.startswith(("nvidia", "cuda", "triton")), (
            f"{pin} is for one kind of machine"
        )
        assert pin.url is None and pin.marker is None and not pin.extras, (
            f"{pin} is more than a pin"
        )


def test_the_pins_leave_the_installer_and_ourselves_out():
    # Pinning pip or setuptools would change the tool in the middle of its work; minidream comes from this folder.
    assert PINS.keys().isdisjoint({"pip", "setuptools", "wheel", "minidream"})


def test_conda_gets_the_same_versions_as_make():
    _, pip = conda_environment()
    # Without this entry `import minidream` fails on Binder, where notebooks run in notebooks/.
    assert pip[-1] == "-e ."
    copied = requirements(pip[:-1])
    assert copied.keys() == requirements(PROJECT["dependencies"] + EXTRAS["test"]).keys()
    for name, pin in copied.items():
        assert exact_version(pin) == exact_version(PINS[name]), (
            f"environment.yml and constraints.txt differ on {name}"
        )


def test_conda_brings_python_and_pip_and_nothing_else():
    # A package from both conda and pip is installed twice, and the later one breaks the earlier one's files.
    conda, _ = conda_environment()
    assert conda == ["python=3.11", "pip"]
    assert PROJECT["requires-python"] == ">=3.11"
    assert "Python 3.11" in (HOUSE / "constraints.txt").read_text(encoding="utf-8").splitlines()[0]


def test_the_version_can_be_read_without_importing_torch():
    # pip builds us in a bare environment: setuptools reads the version as a literal, or imports the package and fails.
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


def test_an_installed_package_has_every_file_of_the_folder():
    # An editable install sees all files, so that only users of a wheel would notice that the weights are missing.
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
