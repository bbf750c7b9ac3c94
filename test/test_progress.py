from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from irevla_ros.jobs.curves import read_metrics
from irevla_ros.jobs.metrics import MetricsLogger
from irevla_ros.jobs.progress import Console, Progress, duration, rate_text


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(progress: Progress, clock: Clock, steps: int, seconds: float, note: str = "") -> None:
    for _ in range(steps):
        clock.now += seconds
        progress.update(note=note)


def test_lines_where_there_is_no_terminal() -> None:
    clock, out = Clock(), io.StringIO()
    with Console(stream=out, clock=clock).progress(100, "stage 0") as progress:
        work(progress, clock, 100, 0.25, "loss 0.10")
    assert out.getvalue().splitlines() == [
        "stage 0  8/100   8%  4/s, 23 s left, loss 0.10",  # as soon as it takes longer than 2 s
        "stage 0  48/100  48%  4/s, 13 s left, loss 0.10",  # then every 10 s
        "stage 0  88/100  88%  4/s, 3 s left, loss 0.10",
        "stage 0  100/100 in 25 s (4/s), loss 0.10",
    ]


def test_terminal_is_redrawn_at_most_five_times_a_second() -> None:
    clock, out = Clock(), Terminal()
    progress = Console(stream=out, clock=clock).progress(1000, "steps")
    work(progress, clock, 1000, 0.001)
    assert 4 <= out.getvalue().count("\r") <= 6


def test_bar_shows_share_rate_and_time_left() -> None:
    clock, out = Clock(), Terminal()
    progress = Console(stream=out, clock=clock).progress(48, "steps")
    work(progress, clock, 24, 0.5)
    assert out.getvalue().split("\r")[-1] == "[############............] steps  24/48  50%  2/s, 12 s left"


def test_a_line_leaves_nothing_of_the_bar() -> None:
    clock, out = Clock(), Terminal()
    console = Console(stream=out, clock=clock)
    progress = console.progress(10, "steps")
    work(progress, clock, 1, 1.0)
    console.say("evaluated")
    drawn = len(out.getvalue().split("\r")[1])
    assert out.getvalue().endswith("\r" + " " * drawn + "\revaluated\n")


def test_log_file_has_the_lines_with_the_time(tmp_path: Path) -> None:
    clock, log = Clock(), tmp_path / "run.log"
    with Console(log, quiet=True, clock=clock).progress(12, "eval") as progress:
        work(progress, clock, 12, 1.0)
    lines = log.read_text().splitlines()
    assert [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", line) for line in lines] == [
        "eval  2/12  17%  1/s, 10 s left", "eval  12/12 100%  1/s, 0 s left", "eval  12/12 in 12 s (1/s)",
    ]  # fmt: skip
    assert all(len(line) > 20 and line[4] == "-" for line in lines)


def test_the_time_until_the_first_unit_is_not_in_the_time_left() -> None:
    """Workers start for 60 s, then 4 units a second are done."""
    clock = Clock()
    progress = Progress(100, "x", Console(quiet=True, clock=clock))
    for _ in range(60):
        clock.now += 1.0
        progress.update(0)
    work(progress, clock, 1, 0.25)
    assert progress.status() == "x  1/100   1%"
    work(progress, clock, 10, 0.25)
    assert progress.status() == "x  11/100  11%  4/s, 22 s left"


def test_quiet_writes_nothing() -> None:
    clock, out = Clock(), Terminal()
    with Console(quiet=True, stream=out, clock=clock).progress(5, "x") as progress:
        work(progress, clock, 5, 5.0)
    assert out.getvalue() == ""


def test_rate_is_of_now_and_without_the_work_of_an_earlier_run() -> None:
    clock = Clock()
    progress = Progress(1000, "x", Console(quiet=True, clock=clock), done=500)
    work(progress, clock, 10, 1.0)
    assert progress.rate == pytest.approx(1.0)
    work(progress, clock, 60, 0.5)
    assert progress.rate == pytest.approx(2.0)


def test_end_is_told_after_an_error_too() -> None:
    out = io.StringIO()

    def fail_after_two() -> None:
        with Console(stream=out, clock=Clock()).progress(5, "x") as progress:
            progress.update(2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_two()
    assert out.getvalue() == "x  2/5 in 0 s (0/s)\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_slow_rates_are_seconds_each() -> None:
    assert (rate_text(0.125), rate_text(12.34), rate_text(0.0)) == ("8 s each", "12.3/s", "0/s")


def test_metrics_reach_csv_and_tensorboard(tmp_path: Path) -> None:
    clock = Clock()
    with MetricsLogger(tmp_path, clock) as logger:
        clock.now += 1.5
        logger.log(3, {"loss": 0.25, "kl": float("nan")}, tag="sft")
        logger.log(4, {"success": 1.0})
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        "step,name,value,wall_s,tag", "3,loss,0.25,1.500,sft", "3,kl,nan,1.500,sft", "4,success,1.0,1.500,",
    ]  # fmt: skip
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in board.Scalars("sft/loss")] == [(3, 0.25)]
    assert [(e.step, e.value) for e in board.Scalars("success")] == [(4, 1.0)]


@pytest.mark.parametrize("cut", range(24))  # bytes that are missing; the last line has 23
def test_metrics_resume_after_a_torn_line(tmp_path: Path, cut: int) -> None:
    clock, path = Clock(), tmp_path / "metrics.csv"
    with MetricsLogger(tmp_path, clock) as logger:
        clock.now += 10
        logger.log(1, {"loss": 0.5}, "sft")
        logger.log(2, {"loss": 0.25}, "sft")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - cut])
    clock.now += 1000  # a pause
    with MetricsLogger(tmp_path, clock) as logger:
        clock.now += 5
        logger.log(3, {"loss": 0.125}, "sft")
    series = read_metrics(path)["sft", "loss"]
    assert series.step.tolist() == ([1, 3] if cut else [1, 2, 3])
    assert series.wall_s[-1] == 15.0


def test_metrics_resume_after_a_torn_header(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,na")
    with MetricsLogger(tmp_path, Clock()) as logger:
        logger.log(1, {"loss": 0.5})
    assert (tmp_path / "metrics.csv").read_text() == "step,name,value,wall_s,tag\n1,loss,0.5,0.000,\n"
