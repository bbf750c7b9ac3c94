"""Settings of the learner of the graph; the node's parameters are their fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from irevla_ros.core.durations import period_ns
from irevla_ros.core.errors import ConfigError
from irevla_ros.jobs.orders import OrderConfig

SHIPPED = "shipped"


@dataclass(frozen=True)
class LearnerConfig:
    """run: absolute path of the run's folder; run_id: names its episodes ("": the folder's name); arms: the namespaces.

    config and overrides: a ``RunConfig`` as of `irevla train`. tasks: the RL tasks to practise (none: all of the suite).
    sft: the policy to begin with: the folder of a checkpoint or of a finished run, "shipped" for the one that comes with
    the package (suite demo), or "" to train stage 0. Evaluations take ``evaluation`` episodes of the RL tasks (of the run's
    configuration), evaluate_expert and evaluate_unseen of those. gate: episodes of the RL and of the expert tasks each that
    decide whether a result of stage 2 is adopted (0: it always is); gate_margin: by how much a success rate may be worse.
    threads: of the training. exit_when_finished: the process ends with code 0 when the method is done.
    simulated: the arms are the simulator's, as reports say of their results.
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
    simulated: bool = True
    orders: OrderConfig = field(default_factory=OrderConfig)

    def __post_init__(self) -> None:
        for name in ("evaluate_expert", "evaluate_unseen", "gate"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} = {getattr(self, name)}", "it is not negative", "give 0 to leave it out")
        period_ns(self.rate_hz)
        if self.threads < 1:
            raise ConfigError(f"threads = {self.threads}", "it is positive", "give 1, say")
        if not 0.0 <= self.gate_margin <= 1.0:
            raise ConfigError(f"gate_margin = {self.gate_margin}", "a difference of rates lies in [0, 1]", "give 0.1, say")

    def folder(self) -> Path:
        """The run's folder. Raises ``ConfigError`` when it is not given, or not absolute."""
        if not Path(self.run).is_absolute():
            raise ConfigError(f"run = {self.run!r}", "the absolute path of the run's folder", "start the graph by irevla up")
        return Path(self.run)

    def initial(self) -> tuple[Path | None, Path | None]:
        """The checkpoint to begin with (None: stage 0 is trained), and the run that it is of, if it is of one.

        Raises ``ConfigError`` where there is none."""
        if self.sft in ("", SHIPPED):
            return (shipped_policy() if self.sft else None), None
        path = Path(self.sft)
        if (path / "checkpoints" / "sft").is_dir():
            return path / "checkpoints" / "sft", path
        if not (path / "config.json").is_file():
            raise ConfigError(f"sft = {self.sft}", "the folder of a checkpoint or of a run that has finished stage 0",
                              f"give one, {SHIPPED!r}, or nothing to train stage 0")  # fmt: skip
        return path, None


def checkpoint_of(name: str) -> Path:
    """The folder of the checkpoint called ``name``: "shipped", or the folder itself."""
    return shipped_policy() if name == SHIPPED else Path(name)


def shipped_policy() -> Path:
    """The checkpoint of stage 0 on suite demo that comes with the package."""
    return Path(str(files("irevla_ros.policy") / "weights" / "demo-sft"))
