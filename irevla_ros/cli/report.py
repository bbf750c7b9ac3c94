"""``irevla report``: write the report of a run, or the tables of a study."""

from __future__ import annotations

import argparse
from pathlib import Path

from irevla_ros.cli.runs import RUNS
from irevla_ros.core.errors import ConfigError
from irevla_ros.jobs.report import write_report
from irevla_ros.jobs.study_tables import write_study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write report.html and plots/ into the folder of a run, finished or interrupted, from what was measured; "
        "nothing is run again. With --study, pool many runs (methods x seeds) into tables and a plot for the docs."
    )
    parser.epilog = (
        "examples:\n"
        "  irevla report demo                                    the run runs/demo\n"
        "  irevla report --study runs/study --out docs/results   all runs below runs/study"
    )
    parser.add_argument("run", nargs="?", help="folder of a run, or its name under runs/")
    parser.add_argument("--study", type=Path, metavar="FOLDER", help="folder that holds the runs of a study")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the tables of the study go")


def run(args: argparse.Namespace) -> int:
    """Returns 0; raises ConfigError when the arguments do not fit and DataError when the folder does not."""
    if args.study is not None:
        if args.run is not None or args.out is None:
            raise ConfigError("report --study", "needs --out and takes no run", "add --out docs/results")
        for path in write_study(args.study, args.out):
            print(path)
        return 0
    if args.run is None or args.out is not None:
        known = sorted(path.name for path in RUNS.glob("*/") if path.is_dir())
        remedy = f"name one: {', '.join(known)}" if known else "there is no run yet, try irevla demo"
        raise ConfigError("report", "one run is required (--out goes with --study)", remedy)
    folder = Path(args.run)
    print(write_report(folder if folder.is_dir() else RUNS / args.run))
    return 0
