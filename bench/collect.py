"""An afternoon at the gamepad, played by a script on the real graph: collect, err, undo, crash, go on, train, measure.

`irevla collect` runs in a terminal of its own with the simulator in real time; a node publishes `joy` messages (sticks,
deadman, buttons) as `joy_node` does, and keys are typed into the terminal. Then the report on what was recorded, `irevla
episodes export` to LeRobot and to MCAP, `import` of both, and stage 0 from what came back of the bags, evaluated.

    python bench/collect.py --goal 10
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "test"))

from irevla_ros.core.episode_state import Phase
from irevla_ros.core.types import ControlSource, Episode, Outcome
from irevla_ros.data.paths import sealed_path
from irevla_ros.data.reader import SpoolReader
from operator_toys import ENTRY, PAD, Collection, Operator, operator, until

RESULTS = Path(__file__).resolve().parent / "results"
TASKS = ["press-red", "press-green", "press-blue"]
SUITE = """\
expert: [{family: press, colour: red}, {family: press, colour: green}, {family: press, colour: blue}]
rl: [{family: press, colour: orange}]
unseen: [{family: press, colour: purple}]
"""


class Session:
    """What the operator does, and what the operator believes to have done: the count to compare with the spool's."""

    def __init__(self, arguments: Sequence[str], spool: Path, hands: Operator) -> None:
        self._arguments, self._spool, self.hands = arguments, spool, hands
        self.log: list[str] = []
        self.desk = Collection(["collect", *arguments])
        self._ready()

    def _ready(self) -> None:
        self.hands.state = self.hands.tally = None
        until(lambda: self.hands.is_in(Phase.IDLE) and self.hands.tally is not None, 120, "the graph is up")
        time.sleep(2.0)

    def start(self) -> None:
        self.hands.press("start")
        until(lambda: self.hands.is_in(Phase.RUN), 30, "an episode runs")
        self.hands.driving = True

    def end(self, seconds: float = 60.0) -> str:
        until(lambda: self.hands.is_in(Phase.END, Phase.IDLE), seconds, "the episode ends")
        self.hands.driving = self.hands.astray = False
        until(lambda: self.hands.is_in(Phase.IDLE), 60, "the episode is sealed")
        time.sleep(1.0)
        state = self.hands.state
        assert state is not None
        return state.episode_id

    def success(self) -> None:
        self.start()
        self.log.append(f"{self.end()}: driven to the button")

    def failure(self) -> None:
        self.start()
        self.hands.astray = True
        time.sleep(2.5)
        self.hands.press("failure")
        self.log.append(f"{self.end()}: driven astray, failure by button")

    def discard(self) -> None:
        self.start()
        time.sleep(0.5)
        self.hands.press("discard")
        name = self.end()
        kept = name in SpoolReader(self._spool).ids()
        self.log.append(f"{name}: {'succeeded before the discard button was pressed' if kept else 'discarded by button'}")

    def undo(self) -> None:
        before = self.hands.tally
        self.hands.press("undo")
        until(lambda: self.hands.tally != before, 30, "undo is counted")
        time.sleep(0.5)  # the button comes up
        last = self.hands.tally.last if self.hands.tally is not None else None
        became = "taken back" if last is not None and last.discarded else "kept again"
        self.log.append(f"{last.episode_id if last else ''}: {became} by the undo button")

    def perturbed(self) -> None:
        self.start()
        time.sleep(0.8)
        self.desk.press("b")
        self.log.append(f"{self.end()}: scene disturbed by key")

    def noted(self, text: str) -> None:
        self.desk.press(f"m{text}\r")
        time.sleep(1.0)
        self.log.append(f"note: {text}")

    def kill_recorder(self) -> None:
        self.start()
        time.sleep(0.6)
        os.kill(self.desk.children()["recorder"], signal.SIGKILL)
        self.log.append(f"{self.end()}: recorder killed in the middle (kill -9)")
        time.sleep(5.0)

    def kill_all(self) -> None:
        self.start()
        time.sleep(0.6)
        self.desk.kill()
        won = len(SpoolReader(self._spool).episodes(outcome=Outcome.SUCCESS))
        state = self.hands.state
        self.hands.driving = False
        self.log.append(f"{state.episode_id if state else ''}: all killed in the middle (kill -9); `irevla collect` again")
        self.desk = Collection(["collect", *self._arguments])
        self._ready()
        counted = sum(one.success for one in self.hands.tally.tasks) if self.hands.tally is not None else -1
        assert counted == won, f"{won} successes in the files, {counted} counted"

    def successes(self) -> int:
        """Of the task that has the fewest."""
        known = {one.task: one.success for one in self.hands.tally.tasks} if self.hands.tally is not None else {}
        return min(known.get(task, 0) for task in TASKS)


def play(run: Path, suite: Path, goal: int) -> tuple[list[str], str]:
    """(what was done, the last screen)."""
    values = [*PAD, f'suite:="{suite}"', "episode:time_limit_s:=30.0"]
    arguments = ["--run", str(run), "--device", "gamepad", "--tasks", ",".join(TASKS), "--goal", str(goal), "--operator", "ada",
                 *(word for value in values for word in ("-p", value))]  # fmt: skip
    with operator() as hands:
        session = Session(arguments, run / "practice", hands)
        try:
            for act in (session.success, session.success, session.failure, session.success, session.undo, session.undo,
                        session.discard, session.success, session.undo, session.perturbed, session.failure):  # fmt: skip
                act()
            session.noted("the gripper stuck a little")
            for act in (session.kill_recorder, session.success, session.kill_all, session.success):
                act()
            while session.successes() < goal:
                session.success()
            time.sleep(1.0)
            return session.log, session.desk.screen()
        finally:
            session.desk.stop()


def irevla(*words: str) -> str:
    done = subprocess.run([sys.executable, "-c", ENTRY, *words], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()


def quality(spool: Path) -> list[str]:
    reader = SpoolReader(spool)
    lines = ["| episode | task | steps | by hand | outcome | perturbed | labels | what is wrong with it |",
             "|---|---|---:|---:|---|---|---|---|"]  # fmt: skip
    for name in reader.ids():
        record, labels = reader.record(name), reader.labels(name).labels
        source = reader.read(name, cameras=()).source
        hand = float((source == ControlSource.HUMAN).mean())
        meta, notes = record.meta, "; ".join(label.note or str(label.outcome) for label in labels)
        outcome = f"{'discarded' if record.discarded else meta.outcome.value} ({meta.termination_reason.value})"
        lines.append(f"| {name} | {meta.task} | {record.steps} | {hand:.0%} | {outcome} | {'yes' if meta.perturbed else ''} "
                     f"| {notes} | {'; '.join(meta.defects)} |")  # fmt: skip
    return lines


def there_and_back(run: Path, folder: Path) -> tuple[list[str], Path]:
    """(a table of both formats, the spool that came back of the bags)."""
    source, rows = SpoolReader(run / "practice"), []
    for form, lossless in (("lerobot", []), ("lerobot", ["--lossless"]), ("mcap", [])):
        name = f"{form}{'-lossless' if lossless else ''}"
        out, back = folder / name, folder / f"{name}-back"
        began = time.monotonic()
        said = irevla("episodes", "export", str(run), str(out), "--format", form, "--discarded", *lossless)
        if not out.is_dir():
            rows.append([name, *"-----", said.splitlines()[-1]])
            continue
        exported = time.monotonic()
        irevla("episodes", "import", str(out), str(back))
        imported = time.monotonic()
        found = SpoolReader(back)
        files = [[sealed_path(one.root, name).read_bytes() for name in found.ids()] for one in (source, found)]
        same = sum(a == b for a, b in zip(*files, strict=True))
        alike = sum(columns_alike(source.read(one), found.read(one), pixels=name != "lerobot") for one in found.ids())
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        verified = next(line for line in irevla("episodes", "verify", str(back)).splitlines() if " sound" in line)
        rows.append([name, f"{size / 1e3:.0f} kB", f"{exported - began:.1f} s", f"{imported - exported:.1f} s",
                     f"{alike} of {len(source.ids())}", f"{same} of {len(source.ids())}", verified])  # fmt: skip
    header = ["format", "size", "export", "import", "episodes alike in every column", "files alike in every byte", "`verify`"]
    lines = [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]
    return lines, folder / "mcap-back"


def columns_alike(a: Episode, b: Episode, pixels: bool) -> bool:
    """All that is recorded of every step, the outcome and the words; ``pixels``: the pictures, too."""
    columns = [field.name for field in fields(Episode) if field.name not in ("meta", "images", "latents")]
    frames = all(np.array_equal(a.images[name], b.images[name]) for name in a.images) or not pixels
    meta = (a.meta.outcome, a.meta.instruction, a.meta.mode, a.meta.perturbed, a.meta.defects)
    return frames and meta == (b.meta.outcome, b.meta.instruction, b.meta.mode, b.meta.perturbed, b.meta.defects) and all(
        np.array_equal(getattr(a, name), getattr(b, name), equal_nan=name == "log_prob") for name in columns)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goal", type=int, default=10, help="successes of each of three tasks (%(default)s)")
    parser.add_argument("--steps", type=int, default=600, help="of stage 0 (%(default)s)")
    parser.add_argument("--evaluation", type=int, default=150, help="episodes of each category (%(default)s)")
    parser.add_argument("--keep", help="folder to leave the run in (default: a temporary one)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="irevla-collect-") as temporary:
        folder = Path(args.keep or temporary).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        suite, run = folder / "press.yaml", folder / "afternoon"
        suite.write_text(SUITE)
        began = time.monotonic()
        log, screen = play(run, suite, args.goal)
        minutes = (time.monotonic() - began) / 60
        reader = SpoolReader(run / "practice")
        records = [reader.record(name) for name in reader.ids()]
        kept = [record for record in records if not record.discarded]
        won = sum(record.meta.outcome is Outcome.SUCCESS for record in kept)
        counted = sum(int(n) for n in re.findall(r"press-\w+ +(\d+)/", screen))
        assert counted == won, f"the screen says {counted} successes, the spool has {won}"
        machine = f"{os.cpu_count()} cores at a load of {os.getloadavg()[0]:.0f}"
        text = [f"# A collection by gamepad, in simulation\n\n`python bench/collect.py --goal {args.goal}`: {len(log)} acts in "
                f"{minutes:.1f} minutes on {machine}. The sticks are moved by a script that knows the scene; nodes, messages, "
                "keys and crashes are real.\n",
                "What was done:\n", *(f"{n}. {line}" for n, line in enumerate(log, 1)),
                f"\nThe terminal at the end ({won} successes, as many as the spool has):\n", "```", screen.strip("\n"), "```\n",
                "Every episode in the spool:\n", *quality(run / "practice"),
                "\n`irevla episodes stats`:\n", "```", irevla("episodes", "stats", str(run / "practice")), "```\n"]  # fmt: skip
        table, back = there_and_back(run, folder)
        text += ["Exported, and imported into an empty spool (`irevla episodes export`, `import`, `verify`):\n", *table, ""]
        out = irevla("sft", "--demos", str(back), "--name", str(folder / "sft"), f"scene.suite={suite}", "videos=0",
                     f"learning.stage0_steps={args.steps}", f"evaluation={args.evaluation}")  # fmt: skip
        (folder / "sft.log").write_text(out)
        text += [f"Stage 0 from the {won} successes that came back of the bags (`irevla sft --demos`, {args.steps} steps), "
                 "evaluated on start states of their own:\n", "```", "\n".join(out.splitlines()[-12:]), "```"]  # fmt: skip
        print("\n".join(text))
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "collect.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
