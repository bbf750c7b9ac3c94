"""Package metadata, for colcon (ament_python) and for pip alike.

All metadata is here, in the form that the setuptools 59 of ROS 2 Humble understands. The one version number is
``irevla_ros.__version__``; package.xml and CHANGELOG.md repeat it and a test compares them.
"""

import re
import sys
from glob import glob
from pathlib import Path

from setuptools import find_packages, setup

NAME = "irevla_ros"
ROOT = Path(__file__).resolve().parent
VERSION = re.search(r'^__version__ = "([^"]+)"$', (ROOT / NAME / "__init__.py").read_text(), re.MULTILINE).group(1)

COMMANDS = ["irevla = irevla_ros.cli.main:main"]
TESTING = ["pytest", "pytest-timeout", "hypothesis"]
# `ros2 run` looks for programs in lib/irevla_ros, where setup.cfg puts them for colcon: it calls `install` or `develop`. pip
# builds a wheel instead, and in the bin folder of an environment a program `sim` has no place.
if {"install", "develop"} & set(sys.argv):
    FILES = sorted((ROOT / NAME / "nodes").glob("*.py")) + sorted((ROOT / NAME / "nodes").glob("*/__main__.py"))
    MODULES = [".".join(path.relative_to(ROOT / NAME / "nodes").with_suffix("").parts) for path in FILES
               if "\ndef main(" in path.read_text()]  # fmt: skip
    COMMANDS += [f"{module.split('.')[0]} = {NAME}.nodes.{module}:main" for module in MODULES]

setup(
    name=NAME,
    version=VERSION,
    description="A vision-language-action policy that improves by practice (iRe-VLA), in simulation and under ROS 2",
    author="The irevla_ros authors",
    maintainer="The irevla_ros authors",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, NAME + ".*"]),
    package_data={
        NAME: ["config/*.yaml", "config/*/*.yaml"],
        NAME + ".nodes": ["view.html"],
        NAME + ".policy": ["weights/*", "weights/*/*"],
        NAME + ".ros": ["*.pyi"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + NAME]),
        ("share/" + NAME, ["package.xml"]),
        ("share/" + NAME + "/launch", glob("launch/*.launch.py")),
    ],
    install_requires=[
        "numpy>=1.26",
        "torch>=2.2",
        "transformers>=5.20",
        "tokenizers",
        "safetensors",
        "gymnasium>=1.0",
        # opencv-python needs libGL, which a headless machine lacks.
        "opencv-python-headless",
        "pillow",
        "pyyaml",
        "matplotlib",
        "tensorboard",
    ],
    extras_require={
        # Only where episodes are simulated: a robot's PC needs none of it.
        "sim": ["pybullet"],
        # The node graph where no ROS 2 is installed.
        "embedded": ["eclipse-zenoh", "rosbags"],
        # `irevla episodes export` and `import`, by format.
        "mcap": ["rosbags"],
        "lerobot": ["pyarrow", "av"],
        # By this name and this entry `colcon test` knows that it has to run pytest: else it finds no test, and passes.
        "test": TESTING,
        "dev": [*TESTING, "pytest-xdist", "ruff", "mypy", "types-PyYAML"],
        "bench": ["pybullet", "stable-baselines3", "panda-gym", "eclipse-zenoh", "rosbags"],
        # Another implementation of the embedded backend's wire format, to test against.
        "conformance": ["zenoh-ros2-sdk"],
    },
    entry_points={"console_scripts": COMMANDS},
    zip_safe=False,
)
