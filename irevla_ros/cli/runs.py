"""Where runs lie. Apart from ``common``, so that looking at a run needs no simulator."""

from __future__ import annotations

from pathlib import Path

RUNS = Path("runs")


def run_folder(name: str) -> Path:
    """A bare name lies under runs/; anything with a slash is a path."""
    return Path(name) if "/" in name else RUNS / name
