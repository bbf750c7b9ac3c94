"""What a run has come to, as lines for a terminal; apart from ``report``, which loads the libraries that draw."""

from __future__ import annotations

from pathlib import Path

from irevla_ros.core.types import CATEGORIES
from irevla_ros.jobs.reference import CATEGORY_NAMES, display_name
from irevla_ros.jobs.summary import read_summary

REPORT = "report.html"


def outcome(folder: Path) -> str:
    """Success of each method on each category, from summary.json of the run, then where its report is."""
    summary = read_summary(folder)
    lines = [f"{'method':16}" + "".join(f"{CATEGORY_NAMES[category]:>28}" for category in CATEGORIES)]
    for method, rates in summary.methods.items():
        cells = (str(rates[category]) if rates[category].episodes else "none" for category in CATEGORIES)
        lines.append(f"{display_name(method):16}" + "".join(f"{cell:>28}" for cell in cells))
    return "\n".join([summary.caveat, *lines, f"open {folder / REPORT}"])
