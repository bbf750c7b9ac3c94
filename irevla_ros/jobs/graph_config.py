"""Settings of the learner of the graph; the node's parameters are their fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from irevla_ros.core.config import find_config, load_config
from irevla_ros.core.errors import ConfigError, unknown_name
from irevla_ros.jobs.config import RunConfig
from irevla_ros.jobs.orders import OrderConfig
from irevla_ros.learn.plan import Plan
from irevla_ros.sim.suite import load_suite


@dataclass(frozen=True)
class LearnerConfig:
    """run: absolute path of the run's folder; run_id: names its episodes ("": the folder's name); arms: the namespaces.

    config and overrides: a ``RunConfig`` as of `irevla train`. tasks: the RL tasks to practise (none: all of the suite).
    sft: the policy to begin with: the folder of a checkpoint or of a finished run, "shipped" for the one that comes with
    the package (suite demo), or "" to train stage 0. Evaluations take ``evaluation`` episodes of the RL tasks (of the run's
    configuration), evaluate_expert and evaluate_unseen of those. gate: episodes of the RL and of the expert tasks each that
    decide whether a result of stage 2 is adopted (0: it always is); gate_margin: by how much a success rate may be worse.
    threads: of the training. exit_when_finished: the process ends with code 0 when the method is done.
    """

    run: str = ""
    run_id: str = ""
    arms: tuple[str, ...] = ("",)
    rate_hz: float = 10.0
    config: str = "graph"
    overrides: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    sft: str = ""
    evaluate_expert: int = 0
    evaluate_unseen: int = 0
    gate: int = 64
    gate_margin: float = 0.1
    threads: int = 1
    exit_when_finished: bool = False
    orders: OrderConfig = field(default_factory=OrderConfig)

    def __post_init__(self) -> None:
        for name in ("evaluate_expert", "evaluate_unseen", "gate"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} = {getattr(self, name)}", "it is not negative", "give 0 to leave it out")
        if not self.rate_hz > 0 or self.threads < 1:
            raise ConfigError(f"rate_hz = {self.rate_hz}, threads = {self.threads}", "both are positive", "give 10 and 1, say")
        if not 0.0 <= self.gate_margin <= 1.0:
            raise ConfigError(f"gate_margin = {self.gate_margin}", "a difference of rates lies in [0, 1]", "give 0.1, say")

    def folder(self) -> Path:
        """The run's folder. Raises ``ConfigError`` when it is not given, or not absolute."""
        if not Path(self.run).is_absolute():
            raise ConfigError(f"run = {self.run!r}", "the absolute path of the run's folder", "start the graph by irevla up")
        return Path(self.run)

    def run_config(self) -> RunConfig:
        """The run's configuration. Raises ``ConfigError``, also for a method that the graph cannot follow."""
        config = load_config(RunConfig, find_config(self.config), list(self.overrides))
        if config.plan(()).stage1 == "all":
            raise ConfigError(f"method {config.method!r}", "in the graph stage 1 trains the head: arms take over no backbone",
                              "use irevla train")  # fmt: skip
        return config

    def plan(self, config: RunConfig) -> Plan:
        """The schedule on the chosen tasks. Raises ``ConfigError`` for a task that is none of the suite's RL tasks."""
        known = tuple(task.name for task in load_suite(config.scene.suite).rl)
        for task in self.tasks:
            if task not in known:
                raise unknown_name("RL task", task, known, f"of suite {config.scene.suite!r}")
        return config.plan(self.tasks or known, "sft" if self.sft else "")
