"""The package as colcon, pip and a user see it: one version, one list of dependencies, nothing left out."""

from __future__ import annotations

import ast
import configparser
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

import irevla_ros
from irevla_ros.nodes.graph import load_graph
from test_architecture import LIBRARIES

ROOT = Path(__file__).resolve().parent.parent


def setup_arguments(*words: str) -> dict[str, Any]:
    """The arguments of setup() in `setup.py WORDS`, as setup() would receive them."""
    script = (
        "import setuptools, json, runpy\n"
        "setuptools.setup = lambda **kw: print(json.dumps(kw))\n"
        "runpy.run_path('setup.py')"
    )
    command = [sys.executable, "-c", script, *words]
    result: dict[str, Any] = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    return result


@pytest.fixture(scope="module")
def metadata() -> dict[str, Any]:
    """As pip has it, which builds a wheel."""
    return setup_arguments("bdist_wheel")


def requirements(metadata: dict[str, Any]) -> set[str]:
    extras = [name for extra in metadata["extras_require"].values() for name in extra]
    return {re.split(r"[<>=\[; ]", name)[0].lower() for name in metadata["install_requires"] + extras}


def test_one_version_everywhere(metadata: dict[str, Any]) -> None:
    changelog = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert changelog is not None
    found = {
        "setup.py": metadata["version"],
        "package.xml": ET.parse(ROOT / "package.xml").findtext("version"),
        "CHANGELOG.md": changelog.group(1),
    }
    assert found == dict.fromkeys(found, irevla_ros.__version__)


def test_package_xml_is_an_ament_python_package(metadata: dict[str, Any]) -> None:
    package = ET.parse(ROOT / "package.xml").getroot()
    assert package.get("format") == "3"
    assert package.findtext("name") == metadata["name"] == "irevla_ros"
    assert package.findtext("license") == metadata["license"] == "Apache-2.0"
    assert package.findtext("export/build_type") == "ament_python"


def test_ament_finds_the_package_and_its_executables(metadata: dict[str, Any]) -> None:
    files = dict(metadata["data_files"])
    assert files["share/ament_index/resource_index/packages"] == ["resource/irevla_ros"]
    assert files["share/irevla_ros"] == ["package.xml"]
    assert (ROOT / "resource" / "irevla_ros").is_file()
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert config["install"]["install_scripts"] == config["develop"]["script_dir"] == "$base/lib/irevla_ros"


def test_colcon_test_runs_pytest(metadata: dict[str, Any]) -> None:
    """colcon-core takes pytest where `tests_require` or the extra `test` names it, else unittest, which finds nothing here."""
    assert "pytest" in metadata["extras_require"]["test"]


def test_all_packages_and_data_are_shipped(metadata: dict[str, Any]) -> None:
    folders = {path.parent for path in (ROOT / "irevla_ros").rglob("*.py")}
    assert {".".join(folder.relative_to(ROOT).parts) for folder in folders} == set(metadata["packages"])
    patterns = {"irevla_ros": ROOT / "irevla_ros", "irevla_ros.policy": ROOT / "irevla_ros" / "policy"}
    shipped = {f for key, folder in patterns.items() for p in metadata["package_data"][key] for f in folder.glob(p)}
    data = {f for suffix in ("yaml", "safetensors") for f in (ROOT / "irevla_ros").rglob(f"*.{suffix}")}
    assert data <= shipped


def test_every_dependency_is_pinned_for_every_python(metadata: dict[str, Any]) -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    markers: dict[str, list[str]] = {}
    for line in lines:
        match = re.fullmatch(r'([\w-]+)==[\w.]+(?:; python_version (>=|<) "3\.11")?', line)
        assert match, line
        markers.setdefault(match.group(1).lower(), []).append(match.group(2) or "")
    assert set(markers) == requirements(metadata)
    assert all(sorted(found) in ([""], ["<", ">="]) for found in markers.values()), markers


def test_every_imported_library_is_declared(metadata: dict[str, Any]) -> None:
    distributions = packages_distributions()
    allowed = set().union(*LIBRARIES.values())
    # One module can belong to several distributions; pybullet brings pybullet_data and pybullet_utils.
    undeclared = {m for m in allowed if not {d.lower() for d in distributions.get(m, [m])} & requirements(metadata)}
    assert undeclared == set()


def test_source_parses_with_the_oldest_supported_grammar() -> None:
    for path in (ROOT / "irevla_ros").rglob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 10))


def test_console_script_points_at_a_function(metadata: dict[str, Any]) -> None:
    from irevla_ros.cli.main import main

    assert metadata["entry_points"]["console_scripts"] == [f"irevla = {main.__module__}:{main.__name__}"]


@pytest.mark.parametrize("how", ["install", "develop"])
def test_colcon_gets_a_program_for_each_node(how: str) -> None:
    scripts = dict(script.split(" = ") for script in setup_arguments(how)["entry_points"]["console_scripts"])
    for graph in (ROOT / "irevla_ros" / "config" / "graphs").glob("*.yaml"):
        for name, spec in load_graph(graph).nodes.items():
            program = spec.program or name
            module = program if (ROOT / "irevla_ros" / "nodes" / f"{program}.py").is_file() else f"{program}.__main__"
            assert scripts[program] == f"irevla_ros.nodes.{module}:main"
    assert set(scripts) > {"irevla"} and not set(scripts) & {"node", "graph", "up", "launch", "supervisor"}


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_speaks_of_a_failure_only_when_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"  # in the place of the environment's: its pip succeeds, or does not
    for code in (0, 1):
        python.write_text(f"#!/bin/sh\nexit {code}\n")
        python.chmod(0o755)
        command = ["make", "install", f"VENV={tmp_path}", "TORCH=cpu", "TORCH_INDEX="]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert (done.returncode == 0, "error" in done.stdout) == (not code, bool(code)), done
        assert "installing irevla_ros and what it needs" in done.stdout
        (tmp_path / ".installed-cpu").unlink(missing_ok=True)
