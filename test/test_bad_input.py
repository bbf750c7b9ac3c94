"""Wrong input, given where a user gives it: exit code 2 and one line with the value, the rule and the remedy.

The lines are those of docs/errors.md, so that the page cannot rot.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from irevla_ros.cli.main import main
from irevla_ros.core.config import dump_yaml, find_config, load_config
from irevla_ros.core.types import Mode
from irevla_ros.data.spool import Spool
from irevla_ros.jobs.config import RunConfig
from irevla_ros.policy import tiny
from irevla_ros.policy.backbone import build_backbone
from irevla_ros.policy.checkpoint import save_vla
from irevla_ros.policy.vla import build_vla
from spool_toys import toy_episode

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "errors.md"

SUITE = """expert: [{family: press, colour: red}]
rl: [{family: press, colour: yellow}]
unseen: [{family: press, colour: purple}]
"""
SFT = "irevla sft --name runs/first workers=1 demos=1 videos=0 scene.suite=suite.yaml"


def nothing() -> None:
    pass


def file(name: str, content: str | bytes) -> Callable[[], None]:
    def write() -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def checkpoint(folder: str, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    save_vla(Path(folder), build_vla(build_backbone("tiny")), {})
    return Path(folder)


def pickled_checkpoint() -> None:
    torch.save({"a": torch.zeros(1)}, "policy.pt")


def pickle_inside_a_checkpoint() -> None:
    torch.save({"a": torch.zeros(1)}, checkpoint("sft") / "head.safetensors")


def backbone_of_another_checkpoint() -> None:
    shutil.copy(checkpoint("other", 1) / "backbone.safetensors", checkpoint("sft") / "backbone.safetensors")


def begun_run() -> None:
    config = load_config(RunConfig, find_config("demo"), ["method=sft", "demos=40"])
    file("runs/first/config.yaml", dump_yaml(config))()


def start_of_another_backbone() -> None:
    checkpoint("runs/first/checkpoints/sft")
    begun_run()


def demonstration(camera: str = "front") -> None:
    """The one demonstration that SFT needs, so that nothing has to be simulated."""
    file("suite.yaml", SUITE)()
    episode = toy_episode("demo-1", 4, task="press-red", mode=Mode.DEMO, cameras={camera: (64, 64)})
    Spool("runs/first/expert").write_episode(episode)


def corrupted_demonstration() -> None:
    demonstration()
    [path] = Path("runs/first/expert").iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def demonstration_of_another_camera() -> None:
    demonstration("overhead")


def missing_weights() -> None:
    demonstration()
    tiny.WEIGHTS = Path("no/such/tiny.safetensors")  # restored by the fixture


# What the user did, the command that did it, and what had to be there before.
CASES: dict[str, tuple[str, Callable[[], None]]] = {
    "misspelt a subcommand": ("irevla trian", nothing),
    "gave an option a wrong value": ("irevla train --seed one", nothing),
    "gave seeds that are none": ("irevla train --seeds 1,two", nothing),
    "named an unknown method": ("irevla train --config my.yaml", file("my.yaml", "method: irevl\n")),
    "named an unknown suite": ("irevla train scene.suite=dmo", nothing),
    "named an unknown task": ("irevla collect --expert --tasks press-rad", nothing),
    "named an unknown family in a suite file": (
        "irevla train scene.suite=my.yaml", file("my.yaml", SUITE.replace("press", "pres", 1))),
    "left a category of a suite file empty": (
        "irevla train scene.suite=my.yaml", file("my.yaml", SUITE.replace("[{family: press, colour: purple}]", "[]"))),
    "named an unknown backbone": ("irevla train --config my.yaml", file("my.yaml", "backbone: tinny\n")),
    "named an unknown camera": ("irevla train --config my.yaml", file("my.yaml", "scene: {cameras: [font]}\n")),
    "misspelt a key in YAML": ("irevla train --config my.yaml", file("my.yaml", "ppo: {actor_rl: 1.0e-4}\n")),
    "misspelt a key on the command line": ("irevla train ppo.actor_rl=1e-4", nothing),
    "gave a value of another type in YAML": ("irevla train --config my.yaml", file("my.yaml", "demos: many\n")),
    "wrote YAML that is none": ("irevla train --config my.yaml", file("my.yaml", "demos: [1,\n")),
    "gave a negative seed": ("irevla train --config my.yaml", file("my.yaml", "seed: -1\n")),
    "named a configuration that is not there": ("irevla train --config mine.yaml", nothing),
    "named a checkpoint that is not there": ("irevla eval runs/first/checkpoints/sft", nothing),
    "gave a pickle as checkpoint": ("irevla eval policy.pt", pickled_checkpoint),
    "put a pickle into a checkpoint": ("irevla eval sft", pickle_inside_a_checkpoint),
    "put the backbone of another checkpoint into one": ("irevla eval sft", backbone_of_another_checkpoint),
    "started from a run with another backbone": (
        "irevla train --sft runs/first backbone=tiny-instructblip", start_of_another_backbone),
    "started from a run that has not finished stage 0": ("irevla train --sft runs/first", begun_run),
    "resumed what is no run": ("irevla train --resume runs/first", nothing),
    "changed settings on resuming": ("irevla train --resume runs/first demos=20", begun_run),
    "gave a run other settings than it began with": ("irevla sft --name runs/first demos=20", begun_run),
    "trained without the pretrained weights": (SFT, missing_weights),
    "trained on a corrupted episode": (SFT, corrupted_demonstration),
    "trained on an episode without a frame of the camera": (SFT, demonstration_of_another_camera),
    "named a spool that is not there": ("irevla episodes list demos", nothing),
}  # fmt: skip
DISK = {
    "filled the disk before the run began": SFT.replace("runs/first", "disk/first"),
    "filled the disk while the run worked": SFT.replace("runs/first", "disk/first"),
}


@pytest.fixture(autouse=True)
def _somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tiny, "WEIGHTS", tiny.WEIGHTS)


def check(did: str, command: str, code: int, stderr: str) -> None:
    """One line with three parts, which stands in the page."""
    assert code == 2, stderr
    assert re.fullmatch(r"irevla: error: [^\n]+: [^\n]+; [^\n]+\n", stderr), stderr
    found = [row.split(" | ") for row in PAGE.read_text(encoding="utf-8").splitlines() if row.startswith(f"| {did}:")]
    assert len(found) == 1, f"docs/errors.md has {len(found)} rows for {did!r}"
    assert found[0][:2] == [f"| {did}: `{command}`", f"`{stable(stderr.strip())}`"]
    assert len(found[0]) == 3, "the last column says what to do"


def stable(line: str) -> str:
    """Without what differs from one machine to the next."""
    line = line.replace(str(ROOT / "irevla_ros"), "irevla_ros")
    line = re.sub(r"\b[0-9a-f]{12}\b", "...", line)
    return re.sub(r"[0-9.]+ MB free", "0.0 MB free", line)


@pytest.mark.parametrize("did", CASES)
def test_one_line_with_value_rule_and_remedy(did: str) -> None:
    command, prepare = CASES[did]
    prepare()
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
        code = main(command.split()[1:])
    check(did, command, code, stderr.getvalue())


def test_the_page_has_no_row_that_is_not_tested() -> None:
    rows = [row for row in PAGE.read_text(encoding="utf-8").splitlines() if row.startswith("| ") and "`irevla" in row]
    assert len(rows) == len(CASES) + len(DISK)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 1.5 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a full disk is a small tmpfs, which only root can mount")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def irevla(command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-m", "irevla_ros", *command.split()[1:]]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=240, env=environment)


def test_a_disk_that_is_full_at_the_start(small_disk: Path) -> None:
    file("suite.yaml", SUITE)()
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb") as filler:
        while True:
            filler.write(bytes(4096))
            filler.flush()
    did = "filled the disk before the run began"
    result = irevla(DISK[did])
    check(did, DISK[did], result.returncode, result.stderr)


def test_a_disk_that_fills_while_a_run_works(small_disk: Path) -> None:
    """The demonstration is small as PNG; laid out for training it is larger than the disk."""
    file("suite.yaml", SUITE)()
    episode = toy_episode("demo-1", 200, task="press-red", mode=Mode.DEMO, cameras={"front": (64, 64)})
    episode.images["front"][:] = 127
    Spool(small_disk / "first" / "expert").write_episode(episode)
    did = "filled the disk while the run worked"
    result = irevla(DISK[did])
    check(did, DISK[did], result.returncode, result.stderr)
    assert Spool(small_disk / "first" / "expert").recovered == ()
