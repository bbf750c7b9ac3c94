"""The gate: a result of stage 2 is adopted only when, on the same start states, it is not worse than what acts now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from irevla_ros.core.types import CATEGORIES
from irevla_ros.jobs.evaluate import EVALUATION_SEED
from irevla_ros.jobs.jsonfile import read_json, write_json
from irevla_ros.jobs.summary import EvaluatedEpisode, Evaluation, compare

# Neither of practice, which leaves out the 100 000 from EVALUATION_SEED on, nor of the evaluation at their beginning, nor of
# tuning (bench/stage1.py) in their middle: choosing by the evaluation's would flatter what is chosen.
GATE_SEED = EVALUATION_SEED + 75_000


@dataclass(frozen=True)
class Decision:
    """``differences``: category -> success of the candidate minus that of the present policy, paired by start state."""

    candidate: str
    present: str
    episodes: int
    differences: dict[str, float]
    margin: float
    adopted: bool

    def __str__(self) -> str:
        changes = ", ".join(f"{name} {change:+.2f}" for name, change in self.differences.items())
        verdict = "adopted" if self.adopted else f"refused, {self.present} stays"
        return (f"{self.candidate} {verdict}: against {self.present} on {self.episodes} start states {changes} "
                f"(margin {self.margin:.2f})")  # fmt: skip


def decide(candidate: str, after: Sequence[EvaluatedEpisode], present: str, before: Sequence[EvaluatedEpisode],
           margin: float) -> Decision:  # fmt: skip
    """Adopted unless in some category the success rate falls by more than ``margin``."""
    found = [compare(Evaluation("after", candidate, True, tuple(after)), Evaluation("before", present, True, tuple(before)), c)
             for c in CATEGORIES]  # fmt: skip
    differences = {one.category: one.difference.mean for one in found if one is not None}
    return Decision(candidate, present, len(after), differences, margin,
                    all(change >= -margin for change in differences.values()))  # fmt: skip


def read_decisions(folder: Path) -> list[Decision]:
    """Every decision of a run, in order."""
    path = folder / "gates.json"
    return [Decision(**one) for one in read_json(path)] if path.is_file() else []


def keep_decision(folder: Path, decision: Decision) -> None:
    write_json(folder / "gates.json", [asdict(one) for one in (*read_decisions(folder), decision)])
