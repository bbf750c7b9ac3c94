"""What each method of the paper does, as settings of the one algorithm in ``irevla``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from irevla_ros.core.errors import ConfigError, unknown_name


@dataclass(frozen=True)
class Plan:
    """Settings of Algorithm 1; ``plan()`` fills them for each method by name.

    algorithm: ``ppo``, ``sacfd`` or ``none`` (no stage 1). stage1 trains the ``head`` or ``all``.
    stage2 trains ``all``, the ``head`` or ``none``, on ``data``, from the head of ``pre_stage1`` or ``stage1`` on.
    between: what a robot runs while stage 2 trains, the ``specialist`` of stage 1 or the ``generalist`` of before.
    Stage 1 of a task ends when the success rate over its last ``window`` training episodes reaches ``threshold``, or
    after ``max_episodes``. SACfD first collects ``demos`` successes with the zero-shot policy, in at most half of those
    episodes. ``harvest`` episodes run with the final head of stage 1, without noise, before D_RL takes the ``newest``
    successes of the task. All of this is done ``rounds`` times over, one task after the other in each round (the paper:
    once).
    """

    method: str
    tasks: tuple[str, ...] = ()
    algorithm: str = "ppo"
    stage1: str = "head"
    stage2: str = "all"
    data: tuple[str, ...] = ("expert", "rl")
    stage2_head: str = "pre_stage1"
    between: str = "generalist"
    stage0_steps: int = 1000
    stage2_steps: int = 400
    sft_checkpoint: str = ""  # a finished stage 0 to start from; empty: run it
    episodes_per_update: int = 32
    window: int = 64
    threshold: float = 0.95
    max_episodes: int = 640
    demos: int = 20
    harvest: int = 64
    rounds: int = 3
    newest: int = 250
    evaluate_stages: bool = False  # evaluate after each stage 1 and 2, not only after stage 0 and at the end

    def __post_init__(self) -> None:
        choices = {"algorithm": ("ppo", "sacfd", "none"), "stage1": ("head", "all"), "stage2": ("all", "head", "none"),
                   "stage2_head": ("pre_stage1", "stage1"), "between": ("generalist", "specialist")}  # fmt: skip
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise unknown_name(name, getattr(self, name), known)
        for name in self.data:
            if name not in ("expert", "rl"):
                raise unknown_name("data", name, ("expert", "rl"))
        for name in ("stage0_steps", "stage2_steps", "episodes_per_update", "window", "max_episodes", "newest", "rounds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}", "it is at least 1", "give a positive number")
        for name in ("demos", "harvest"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} = {getattr(self, name)}", "it is not negative", "give 0 to leave it out")
        if not 0.0 < self.threshold <= 1.0:
            raise ConfigError(f"threshold = {self.threshold}", "a success rate lies in (0, 1]", "give 0.9, say")
        if self.algorithm == "sacfd" and self.stage1 == "all":
            raise ConfigError("algorithm 'sacfd' with stage1 'all'", "SACfD learns on the latents of a frozen VLM",
                              "use ppo")  # fmt: skip
        if len(set(self.tasks)) != len(self.tasks):
            raise ConfigError(f"tasks {self.tasks}", "each RL task appears once", "remove the repetition")


METHODS: dict[str, dict[str, Any]] = {
    "sft": {"algorithm": "none", "stage2": "none"},
    "sft-continued": {"algorithm": "none", "data": ("expert",)},  # the control: as many supervised steps as irevla
    "irevla": {},
    "irevla-sacfd": {"algorithm": "sacfd"},
    # Stage 2 replays D_e only, so what stage 1 taught survives in its head or not at all.
    "ppo-replay": {"data": ("expert",), "stage2_head": "stage1"},
    "whole-vla-ppo": {"stage1": "all", "stage2": "none"},
    "frozen-vlm": {"stage2": "head"},
}


def plan(method: str, tasks: tuple[str, ...], **settings: Any) -> Plan:
    """The plan of a method of ``METHODS`` on RL tasks in this order; ``settings`` override."""
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    return Plan(**{"method": method, "tasks": tasks, **METHODS[method], **settings})
