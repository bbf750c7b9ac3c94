"""What SACfD remembers of the episodes that it is given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from irevla_ros.core.types import Episode, Mode
from irevla_ros.jobs.config import RunConfig
from irevla_ros.jobs.stage1 import Stage1
from irevla_ros.learn.irevla import StartTask
from irevla_ros.learn.sacfd import SACfDConfig
from irevla_ros.policy.backbone import build_backbone
from irevla_ros.policy.checkpoint import save_vla
from irevla_ros.policy.vla import build_vla
from learn_toys import make_episode


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vla") / "first"
    save_vla(folder, build_vla(build_backbone("tiny")), {})
    return folder


def episode(steps: int, mode: Mode, success: bool) -> Episode:
    one = make_episode(steps, "terminated" if success else "truncated")
    return replace(one, meta=replace(one.meta, mode=mode))


@pytest.mark.parametrize(("keep", "demonstrations"), [(True, 3 + 11), (False, 3)])
def test_nothing_that_sacfd_saw_is_wasted(checkpoint: Path, keep: bool, demonstrations: int) -> None:
    config = RunConfig(sacfd=SACfDConfig(keep_successes=keep))
    stage = Stage1(StartTask("reach", "", "sacfd", "head", 1, 0), checkpoint, config, [])
    stage.remember([episode(3, Mode.DEMO, True), episode(5, Mode.DEMO, False),
                    episode(7, Mode.TRAIN, False), episode(11, Mode.TRAIN, True)])  # fmt: skip
    # Zero-shot successes are demonstrations only; zero-shot failures and all practice are experience, in steps:
    assert (len(stage.replay.demo), len(stage.replay.online)) == (demonstrations, 5 + 7 + 11)
    assert stage.replay.online.steps_added == 23
