"""The package as pip installs it, in a folder with neither notebooks nor tests beside it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minidream import weights
from minidream.studies import results
from minidream.weights.files import data_folder

HOUSE = Path(__file__).parents[1]
# Opens all data of the package, and says where it lies and where a study would write.
OPENS_EVERYTHING = """
import json
import minidream
from minidream import weights
from minidream.plots import plot_pictures
from minidream.studies import family_runs, probing, query_count, shipped_toy, synergy
from minidream.studies.results import COMMITTED, WRITTEN, load_results
from minidream.weights.reading import SHIPPED_CONFIGS
from minidream.weights.toy import pretrained_judge, pretrained_text_tower

studies = [family_runs, probing, query_count, synergy]
assert all(load_results(study.RESULTS)["runs"] for study in studies)
assert json.loads(shipped_toy.RESULTS.read_bytes())["rows"]
assert json.loads((COMMITTED / "full_size.json").read_bytes())["runs"]
tiny, configs = weights.TINY / "checkpoint", weights.TINY / "component_configs"
model = minidream.load(tiny, device="cpu", component_configs=configs)
assert (SHIPPED_CONFIGS / "clip_vision" / "config.json").exists()
assert pretrained_judge() and pretrained_text_tower()
plot_pictures([minidream.load("toy", device="cpu").dream("a star", num_inference_steps=1)])
written = [str(WRITTEN), str(probing.ProbingOptions().out)]
print(json.dumps([str(COMMITTED), str(weights.TINY), *written, model.queries]))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the package as setuptools puts it into a wheel, built without a warning."""
    folder = tmp_path_factory.mktemp("site")
    build = ["egg_info", "--egg-base", folder, "build_py", "--build-lib", folder]
    command = [sys.executable, "-c", "import setuptools; setuptools.setup()", "--quiet", *build]
    done = subprocess.run(command, cwd=HOUSE, check=True, capture_output=True, text=True)
    assert "Package would be ignored" not in done.stdout + done.stderr
    return folder


def test_an_installed_package_finds_its_data_and_writes_nothing_into_itself(site, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-c", OPENS_EVERYTHING]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    package = (site / "minidream").resolve()
    assert json.loads(done.stdout) == [
        str(package / "results"),
        str(package / "tiny"),
        "runs/results",
        "runs/results/probing.json",
        8,
    ]
    assert not list(tmp_path.iterdir())


def test_the_installed_data_is_that_of_the_clone(site):
    for name, source, pattern in (
        ("results", HOUSE / "notebooks" / "results", "*.json"),
        ("tiny", HOUSE / "tests" / "fixtures" / "tiny-a", "checkpoint/*"),
        ("tiny", HOUSE / "tests" / "fixtures" / "tiny-a", "component_configs/**/*.json"),
    ):
        found = {path.relative_to(source): path.read_bytes() for path in source.glob(pattern)}
        installed = site / "minidream" / name
        assert found and found == {path: (installed / path).read_bytes() for path in found}


def test_a_clone_reads_and_writes_what_is_committed():
    committed = (HOUSE / "notebooks" / "results").resolve()
    assert results.COMMITTED == results.WRITTEN == committed
    assert weights.TINY == (HOUSE / "tests" / "fixtures" / "tiny-a").resolve()
    # Without the link, as git on Windows may leave it.
    assert data_folder("no-such-link", "notebooks/results") == committed
