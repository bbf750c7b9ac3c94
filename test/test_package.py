"""The package as colcon, pip and a user see it: one version, one list of dependencies, nothing left out."""

from __future__ import annotations

import ast
import configparser
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

import irevla_ros
from test_architecture import LIBRARIES

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def metadata() -> dict[str, Any]:
    """The arguments of setup() in setup.py, as setup() would receive them."""
    script = (
        "import setuptools, json, runpy\n"
        "setuptools.setup = lambda **kw: print(json.dumps(kw))\n"
        "runpy.run_path('setup.py')"
    )
    output = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    result: dict[str, Any] = json.loads(output)
    return result


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
