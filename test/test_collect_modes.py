"""`irevla collect` in its other modes, through the command: a policy corrected in a disturbed scene, and the experts."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

import irevla_ros
from irevla_ros.cli.main import main
from irevla_ros.core.types import ControlSource, Mode, Outcome
from irevla_ros.data.reader import SpoolReader
from operator_toys import collecting, see, shows, until

SHIPPED = Path(irevla_ros.__file__).parent / "policy" / "weights" / "demo-sft"


@pytest.mark.timeout(300)
def test_a_policy_is_corrected_and_goes_on_and_each_step_says_who_acted(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    words = "--tasks", "press-red", "--policy", str(SHIPPED), "--perturb", "--operator", "ada", "-p", "view:port:=0"
    with collecting("--run", str(tmp_path / "helped"), *words) as desk:
        see(desk, "none is running")
        see(desk, "7 well")
        desk.press("t")
        see(desk, "RUN .*PERTURBED")
        human = shows(desk, r"RUN .* [4-9] steps, human")
        until(lambda: desk.press("r") or time.sleep(0.05) or human(), 60)  # up, away from the button
        see(desk, "held: released by the human, not engaged again")
        desk.press("b")
        see(desk, "disturb: requested")
        desk.press("g")
        see(desk, "engage: requested")
        see(desk, r"last +helped-000001  press-red  \d+ steps  (success|failure|unknown)")
        assert desk.stop() == 130
    episode = SpoolReader(tmp_path / "helped" / "practice").read("helped-000001")
    acted = episode.source == ControlSource.POLICY
    handed_back = int(np.flatnonzero(acted & (np.cumsum(~acted) > 0))[0])
    assert set(episode.source) == {ControlSource.POLICY, ControlSource.HUMAN} and acted[handed_back:].all()
    assert (episode.head_version[acted] >= 0).all() and (episode.head_version[~acted] == -1).all()
    assert episode.executed[~acted, 2].max() > 0.2  # up
    assert episode.latents is not None and np.isfinite(episode.latents).all()
    meta = episode.meta
    assert (meta.mode, meta.perturbed, meta.operator) == (Mode.TRAIN, True, "ada")


def test_the_experts_collect_successes_and_a_second_command_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pybullet")
    words = ["collect", "--expert", "--run", str(tmp_path / "shown"), "--workers", "1", "--tasks", "press-red,press-blue"]
    assert main([*words, "--goal", "1"]) == 0
    assert main([*words, "--goal", "2"]) == 0
    assert "2 successes of each of 2 tasks (2 episodes run now)" in capsys.readouterr().out
    records = SpoolReader(tmp_path / "shown" / "practice").episodes()
    assert sorted(record.meta.task for record in records) == ["press-blue"] * 2 + ["press-red"] * 2
    assert {(record.meta.mode, record.meta.outcome) for record in records} == {(Mode.DEMO, Outcome.SUCCESS)}
    assert main([*words, "--policy", "x"]) == 2
    assert "scripted experts act alone" in capsys.readouterr().err
