"""The configuration of a run: everything that decides its result, apart from the machine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from irevla_ros.core.errors import ConfigError, unknown_name
from irevla_ros.core.spec import MAX_STD, MIN_STD
from irevla_ros.jobs.rollouts import SceneConfig
from irevla_ros.learn.augment import Augmentation
from irevla_ros.learn.plan import METHODS, Plan, plan
from irevla_ros.learn.ppo import PPOConfig
from irevla_ros.learn.sacfd import SACfDConfig
from irevla_ros.policy.backbone import resolve_backbone
from irevla_ros.sim.world import CAMERAS


@dataclass(frozen=True)
class SupervisedConfig:
    """Stages 0 and 2. ``expert_share``: part of each stage-2 batch that comes from D_e, the rest from D_RL.

    Stage 2 starts from trained weights, so its learning rates are ``stage2_lr`` times those of stage 0.
    """

    batch: int = 128
    backbone_lr: float = 1e-3
    head_lr: float = 1e-3
    stage2_lr: float = 0.5
    expert_share: float = 0.5
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ConfigError(f"supervised.batch = {self.batch}", "it is at least 1", "give 128, say")
        for name in ("backbone_lr", "head_lr", "stage2_lr"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"supervised.{name} = {getattr(self, name)}", "it is positive", "see the defaults")
        if not 0.0 <= self.expert_share <= 1.0:
            raise ConfigError(f"supervised.expert_share = {self.expert_share}", "it lies in [0, 1]", "give 0.5, say")


@dataclass(frozen=True)
class RunConfig:
    """``learning`` holds the schedule of Algorithm 1; its ``method`` and ``tasks`` are filled from here.

    backbone: name in the registry, with its shipped weights. demos: expert episodes for each expert task. demonstrations:
    a spool, or the run that recorded it, whose successes of mode demo are D_e as they are; "": scripted experts are simulated.
    std: exploration of stage 1, in normalised action units. evaluation: episodes per category, spread over its tasks.
    workers: processes; environments: simulated arms in each.
    """

    method: str = "irevla"
    seed: int = 1
    scene: SceneConfig = field(default_factory=SceneConfig)
    backbone: str = "tiny"
    demos: int = 60
    demonstrations: str = ""
    std: float = 0.3
    evaluation: int = 300
    videos: int = 2
    workers: int = 2
    environments: int = 16
    supervised: SupervisedConfig = field(default_factory=SupervisedConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    sacfd: SACfDConfig = field(default_factory=SACfDConfig)
    learning: Plan = field(default_factory=lambda: Plan("irevla"))

    def __post_init__(self) -> None:
        for name in ("demos", "evaluation", "workers", "environments"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}", "it is at least 1", "give a positive number")
        for name in ("seed", "videos"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} = {getattr(self, name)}", "it is at least 0", "give 1, say")
        if not MIN_STD <= self.std <= MAX_STD:
            raise ConfigError(f"std = {self.std}", f"exploration lies in [{MIN_STD}, {MAX_STD}]", "give 0.3, say")
        cameras = self.scene.cameras
        if not cameras or len(set(cameras)) != len(cameras):
            raise ConfigError(f"scene.cameras = {list(cameras)}", "a policy sees at least one camera, and each once",
                              f"name some of {', '.join(CAMERAS)}")  # fmt: skip
        for camera in self.scene.cameras:
            if camera not in CAMERAS:
                raise unknown_name("camera", camera, CAMERAS)
        resolve_backbone(self.backbone)  # an unknown name is an error now, not after the demonstrations
        plan(self.method, ())
        self._check_learning()

    def _check_learning(self) -> None:
        """What ``plan`` fills in may not be asked for otherwise: it would be ignored, or filed under a wrong name."""
        default, preset = Plan("irevla"), METHODS[self.method]
        for name in ("method", "tasks", "sft_checkpoint", "algorithm", "stage1", "stage2", "data", *preset):
            decided = self.method if name == "method" else preset.get(name, getattr(default, name))
            given = getattr(self.learning, name)
            if given not in (decided, getattr(default, name)):
                raise ConfigError(f"learning.{name} = {given}", f"the method {self.method!r} and the suite decide it",
                                  f"choose a method ({', '.join(METHODS)}) or a suite")  # fmt: skip

    def plan(self, tasks: tuple[str, ...], sft_checkpoint: str = "") -> Plan:
        """The schedule of this run's method on these RL tasks."""
        settings = METHODS[self.method]
        return replace(self.learning, method=self.method, tasks=tasks, sft_checkpoint=sft_checkpoint, **settings)
