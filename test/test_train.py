"""The real entry point on a tiny configuration: a whole run, and the same run killed again and again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from irevla_ros.jobs.curves import read_metrics
from irevla_ros.sim.suite import load_suite

SETTINGS = [
    "workers=1", "environments=4", "demos=2", "evaluation=4", "videos=0", "supervised.batch=16", "ppo.minibatch=64",
    "learning.stage0_steps=6", "learning.stage2_steps=4", "learning.max_episodes=8", "learning.episodes_per_update=4",
    "learning.window=8", "learning.harvest=2", "learning.rounds=2", "ppo.critic_warmup_updates=0",
]  # fmt: skip
STAGES = [f"{number}-{task.name}" for number, task in enumerate(load_suite("demo").rl * 2, start=1)]


def command(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "irevla_ros", "train", "--name", str(folder), *SETTINGS, *arguments]


def weights(folder: Path) -> dict[str, str]:
    """SHA-256 of every tensor file by checkpoint, as recorded by the checkpoints themselves."""
    found = {}
    for path in sorted((folder / "checkpoints").glob("*/config.json")):
        found[path.parent.name] = json.dumps(json.loads(path.read_text())["sha256"], sort_keys=True)
    return found


def outcomes(folder: Path) -> dict[str, list[tuple[str, int, bool, int]]]:
    return {
        path.stem: [(e["task"], e["seed"], e["success"], e["steps"]) for e in json.loads(path.read_text())["episodes"]]
        for path in sorted((folder / "evaluations").glob("*.json"))
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    subprocess.run(command(folder), check=True, timeout=300, capture_output=True)
    return folder


def test_a_run_leaves_what_the_report_promises(whole: Path) -> None:
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["seed"] == 1 and summary["wall_s"] > 0 and summary["complete"] is True
    for method in ("sft", "irevla"):
        for category in ("expert", "rl", "unseen"):
            counts = summary["methods"][method][category]
            assert 0 <= counts["successes"] <= counts["episodes"] and counts["episodes"] >= 4
    for name in ("config.yaml", "metrics.csv", "log.txt", "report.html", "d_rl.json", "tensorboard", "plots"):
        assert (whole / name).exists(), name
    assert set(weights(whole)) == {"sft", *(f"{stage}-stage{n}" for stage in STAGES for n in (1, 2))}
    assert not (whole / "videos").exists()


def test_stage_1_leaves_the_backbone_bit_identical(whole: Path) -> None:
    sums = {name: json.loads(text)["backbone.safetensors"] for name, text in weights(whole).items()}
    first, second, *_ = STAGES
    assert sums[f"{first}-stage1"] == sums["sft"]
    assert sums[f"{first}-stage2"] != sums["sft"]
    assert sums[f"{second}-stage1"] == sums[f"{first}-stage2"]


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_weights(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    kills = 0
    # Each life is ended once it has got one command further than the last: at another point of Algorithm 1 each time.
    for wanted in (1, 5, 11, "in a batch"):
        process = subprocess.Popen(command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   start_new_session=True)  # fmt: skip
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            state = folder / "state.json"
            reached = state.is_file() and len(json.loads(state.read_text())["events"])
            # Some episodes of a batch are written, others not: the batch is run again as a whole.
            if any((folder / "practice").glob("*.pending")) if wanted == "in a batch" else reached >= wanted:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.005)
        process.wait(timeout=60)
    assert kills == 4
    subprocess.run([sys.executable, "-m", "irevla_ros", "train", "--resume", str(folder)], check=True, timeout=300,
                   capture_output=True)  # fmt: skip
    assert outcomes(folder) == outcomes(whole)
    assert weights(folder) == weights(whole)


def test_another_configuration_in_the_folder_of_a_run_is_refused(whole: Path) -> None:
    result = subprocess.run(command(whole, "ppo.gamma=0.9"), timeout=120, capture_output=True, text=True)
    assert result.returncode == 2
    assert "a run keeps the configuration that it began with" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_harvested_episodes_do_not_count_as_practice(whole: Path) -> None:
    curves = read_metrics(whole / "metrics.csv")
    for task in load_suite("demo").rl:
        success = curves[f"stage1/{task.name}", "success"]
        assert list(success.step) == [4, 8, 12, 16]  # two rounds of at most 8, and 2 harvested after each
