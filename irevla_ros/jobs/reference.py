"""What every table is read against: the names of the methods, the paper's figures, and how this set-up differs."""

from __future__ import annotations

METHOD_NAMES = {
    "sft": "SFT",
    "sft-continued": "SFT continued",
    "irevla": "iRe-VLA",
    "irevla-sacfd": "iRe-VLA (SACfD)",
    "ppo-replay": "PPO-Replay",
    "whole-vla-ppo": "whole-VLA PPO",
    "frozen-vlm": "VLM frozen in both stages",
}
CATEGORY_NAMES = {"expert": "expert", "rl": "RL-trained", "unseen": "unseen"}

# arXiv 2501.16664, ablation on Meta-World: success on 25 expert, 5 RL-trained and 10 unseen tasks.
PAPER_META_WORLD = {
    "sft": {"expert": 0.83, "rl": 0.41, "unseen": 0.51},
    "frozen-vlm": {"expert": 0.75, "rl": 0.79, "unseen": 0.61},
    "ppo-replay": {"expert": 0.69, "rl": 0.35, "unseen": 0.39},
    "irevla": {"expert": 0.84, "rl": 0.89, "unseen": 0.81},
}
PAPER_SETUP = (
    "Published figures, for orientation only: BLIP-2 with 3 billion parameters on Meta-World (25 expert tasks with 50 "
    "trajectories each, 5 RL-trained, 10 unseen); the number of evaluation episodes is not published, so no interval "
    "can be given. Robot, tasks, model and data differ from ours; the two cannot be compared number by number."
)


def display_name(label: str) -> str:
    """The name in tables and plots of an evaluation label, ``method`` or ``method@variant``."""
    method, _, variant = label.partition("@")
    method = method.replace("_", "-")
    return METHOD_NAMES.get(method, method) + (f", {variant.replace('-', ' ')}" if variant else "")


def caveat(parameters: int | None = None, simulated: bool = True) -> str:
    """The statement that stands above every table of results."""
    size = f"{parameters / 1e6:.2f} M" if parameters else "about 0.3 M"
    where = "in simulation" if simulated else "on a robot"
    return f"This is a small model ({size} parameters) {where}; it is not the paper's set-up."
