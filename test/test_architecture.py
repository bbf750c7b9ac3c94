"""Who may import whom: read from the source, imports within functions included."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "irevla_ros"

# Part of the package -> the parts that it may import, besides itself.
ARROWS = {
    "core": set(),
    "disk": set(),
    "policy": {"core", "disk"},
    "data": {"core", "disk"},
    "exchange": {"core", "disk", "data", "nodes"},
    "sim": {"core"},
    "rewards": {"core", "policy"},
    "learn": {"core", "policy"},
    "jobs": {"core", "disk", "policy", "data", "sim", "rewards", "learn"},
    "ros": {"core"},
    "nodes": {"core", "disk", "policy", "data", "sim", "rewards", "learn", "jobs", "ros"},
    "cli": {"core", "disk", "policy", "data", "exchange", "sim", "rewards", "learn", "jobs", "ros", "nodes"},
}  # fmt: skip

# Part -> the libraries outside the standard library that it may import.
LIBRARIES = {
    "core": {"numpy", "yaml"},
    "disk": set(),
    "policy": {"numpy", "torch", "transformers", "tokenizers", "safetensors"},
    "data": {"numpy", "cv2"},
    "exchange": {"numpy", "rosbags", "pyarrow", "av"},
    "sim": {"numpy", "yaml", "cv2", "gymnasium", "pybullet", "pybullet_data", "pybullet_utils"},
    "rewards": {"numpy", "torch"},
    "learn": {"numpy", "torch"},
    "jobs": {"numpy", "yaml", "cv2", "gymnasium", "torch", "safetensors", "matplotlib", "PIL"},
    "ros": {"numpy", "yaml", "zenoh", "rosbags"},
    "nodes": {"numpy", "cv2", "yaml"},
    "cli": {"numpy", "cv2", "gymnasium"},
}

# Part, or folder of one -> what only a ROS 2 installation brings: no package index has it. The seam has neither actions nor TF,
# so nodes/franka, which is native only, uses rclpy itself. Nobody else imports it but the doctor, once it is asked for a robot.
ROS = {
    "ros": {"rclpy", "rcl_interfaces"},
    "nodes": {"launch", "launch_ros"},
    "nodes/franka": {"rclpy", "action_msgs", "tf2_ros", "franka_msgs", "control_msgs", "controller_manager_msgs"},
}
NATIVE = "irevla_ros.nodes.franka"


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute module) of every import statement, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            yield node.lineno, node.module or ""
            if node.module == "irevla_ros":
                yield from ((node.lineno, f"irevla_ros.{alias.name}") for alias in node.names)


def _is_native(path: Path) -> bool:
    return path.parts[-3:-1] == ("nodes", "franka")


def breaches(part: str, folder: Path) -> list[str]:
    """The imports of a part's files that its rules do not allow."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        for line, module in imported(path):
            top, *rest = module.split(".")
            if top == "irevla_ros":
                fine = not rest or rest[0] in ARROWS[part] | {part, "__version__"}
                fine = fine and (not module.startswith(NATIVE) or _is_native(path) or part == "cli")
            else:
                brought = ROS["nodes/franka"] if _is_native(path) else ROS.get(part, set())
                fine = top in sys.stdlib_module_names or top in LIBRARIES[part] | brought
            if not fine:
                found.append(f"{path.relative_to(folder.parent)}:{line} imports {module}")
    return found


def test_every_part_has_its_rules() -> None:
    parts = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert parts - {"config"} == set(ARROWS) == set(LIBRARIES)  # config holds data, no code


@pytest.mark.parametrize("part", ARROWS)
def test_imports_follow_the_arrows(part: str) -> None:
    assert breaches(part, PACKAGE / part) == []


def test_a_breach_is_found_even_within_a_function(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "bad.py").write_text(
        "from irevla_ros.core import errors\ndef f():\n    import torch.nn\n    from irevla_ros import learn\n"
    )
    assert breaches("core", tmp_path / "core") == [
        "core/bad.py:3 imports torch.nn", "core/bad.py:4 imports irevla_ros.learn",
    ]  # fmt: skip


def test_only_the_franka_node_uses_rclpy_itself(tmp_path: Path) -> None:
    (tmp_path / "nodes" / "franka").mkdir(parents=True)
    (tmp_path / "nodes" / "franka" / "good.py").write_text("import rclpy.action, tf2_ros\n")
    (tmp_path / "nodes" / "bad.py").write_text("import rclpy\nfrom irevla_ros.nodes.franka import node\n")
    assert breaches("nodes", tmp_path / "nodes") == [
        "nodes/bad.py:1 imports rclpy", "nodes/bad.py:2 imports irevla_ros.nodes.franka",
    ]  # fmt: skip


def test_learn_and_core_neither_write_files_nor_log() -> None:
    for part in ("core", "learn"):
        for path in (PACKAGE / part).rglob("*.py"):
            modules = {module.split(".")[0] for _, module in imported(path)}
            assert not modules & {"logging", "multiprocessing", "subprocess", "threading", "tempfile"}, path
            calls = {node.func.id for node in ast.walk(ast.parse(path.read_text()))
                     if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}  # fmt: skip
            assert not calls & {"print", "open"}, path


def test_core_has_no_clock() -> None:
    for path in (PACKAGE / "core").rglob("*.py"):
        assert not {module for _, module in imported(path)} & {"time", "datetime", "random"}, path


def test_nothing_is_unpickled() -> None:
    """torch.load, np.load(allow_pickle=True) and pickle run code that a file brings along."""
    for path in PACKAGE.rglob("*.py"):
        assert not {module for _, module in imported(path)} & {"pickle", "joblib", "dill", "shelve"}, path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) != "torch.load", f"{path}:{node.lineno}"
                assert "allow_pickle=True" not in map(ast.unparse, node.keywords), f"{path}:{node.lineno}"


def modules_after(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(*sys.modules, file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in result.stderr.split()}


def files_of(part: str) -> str:
    names = [path.relative_to(PACKAGE.parent).with_suffix("") for path in sorted((PACKAGE / part).glob("*.py"))]
    return "\n".join(f"import {'.'.join(name.parts).removesuffix('.__init__')}" for name in names)


def test_robot_side_parts_load_neither_simulator_nor_ros() -> None:
    loaded = modules_after("\n".join(files_of(part) for part in ("core", "data", "policy", "learn", "rewards")))
    assert {"torch", "numpy"} <= loaded
    assert not loaded & {"rclpy", "zenoh", "pybullet", "gymnasium", "matplotlib"}


def test_the_embedded_middleware_needs_neither_ros_nor_a_simulator() -> None:
    for library in ("zenoh", "rosbags"):
        pytest.importorskip(library)
    script = "import os; os.environ['IREVLA_ROS'] = 'embedded'\nimport irevla_ros.ros.run, irevla_ros.ros.qos"
    assert {"zenoh", "rosbags"} <= (loaded := modules_after(script))
    assert not loaded & {"rclpy", "torch", "pybullet", "cv2"}


def test_core_loads_no_heavy_library() -> None:
    assert not modules_after(files_of("core")) & {"torch", "transformers", "cv2", "gymnasium", "pybullet", "rclpy"}


def test_command_line_starts_without_torch() -> None:
    loaded = modules_after("from irevla_ros.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass")
    assert not loaded & {"torch", "transformers", "pybullet", "matplotlib", "cv2"}
