"""What a run's configuration refuses at once, instead of ignoring it or failing after the demonstrations."""

from __future__ import annotations

import pytest

from irevla_ros.core.config import load_config
from irevla_ros.core.errors import ConfigError
from irevla_ros.jobs.config import RunConfig


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["learning.method=ppo-replay"], "learning.method = ppo-replay: the method 'irevla' and the suite decide it"),
        (["learning.algorithm=sacfd"], "learning.algorithm = sacfd: the method 'irevla' and the suite decide it"),
        (["learning.tasks=[press-orange]"], r"learning.tasks = \('press-orange',\): the method"),
        (["method=frozen-vlm", "learning.stage2=none"], "learning.stage2 = none: the method 'frozen-vlm'"),
        (["supervised.batch=0"], "supervised.batch = 0: it is at least 1"),
        (["supervised.head_lr=-1e-3"], "supervised.head_lr = -0.001: it is positive"),
        (["supervised.expert_share=2"], r"supervised.expert_share = 2.0: it lies in \[0, 1\]"),
        (["std=5"], r"std = 5.0: exploration lies in \[0.05, 1.0\]"),
        (["scene.cameras=[front, front]"], r"scene.cameras = \['front', 'front'\]: a policy sees .* each once"),
        (["sacfd.std_range=[-1, 0.5]"], "std_range = .*: a standard deviation is positive"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_in_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(RunConfig, None, overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("overrides", [["learning.stage2_head=stage1"], ["method=irevla-sacfd"], ["method=ppo-replay"]])
def test_what_the_ablations_set_is_allowed(overrides: list[str]) -> None:
    config = load_config(RunConfig, None, overrides)
    plan = config.plan(("press-orange",))
    assert (plan.method, plan.tasks) == (config.method, ("press-orange",))
