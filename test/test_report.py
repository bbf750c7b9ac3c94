"""The reading side of a run folder: summary, curves, report and study tables."""

from __future__ import annotations

import argparse
import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from irevla_ros.cli import report as cli
from irevla_ros.core.errors import ConfigError, DataError
from irevla_ros.core.stats import Rate
from irevla_ros.jobs.curves import Milestone, Series, milestones, moving_success, read_metrics
from irevla_ros.jobs.reference import METHOD_NAMES, PAPER_META_WORLD, display_name
from irevla_ros.jobs.report import write_report
from irevla_ros.jobs.study_tables import pool, read_study, write_study
from irevla_ros.jobs.summary import (
    EvaluatedEpisode,
    Evaluation,
    StageSpan,
    Summary,
    read_evaluations,
    read_summary,
    summarise,
)
from irevla_ros.jobs.video import Clip, write_video
from irevla_ros.learn.plan import METHODS

TASKS = {"press-red-button": "expert", "pick-up-blue-cube": "expert", "press-yellow-button": "rl",
         "push-green-cylinder-left": "rl", "push-blue-cube-right": "unseen"}  # fmt: skip


def evaluation(label: str, successes: dict[str, int], episodes: int = 50, deterministic: bool = True) -> Evaluation:
    """``successes[category]`` of the first start states of each task succeed."""
    return Evaluation(label, f"checkpoints/{label}", deterministic, tuple(
        EvaluatedEpisode(task, category, 1000 + i, i < successes.get(category, 0), 40)
        for task, category in TASKS.items() for i in range(episodes)))  # fmt: skip


SFT = evaluation("sft", {"expert": 46, "rl": 20, "unseen": 25})
IREVLA = evaluation("irevla", {"expert": 45, "rl": 45, "unseen": 30})


def write_metrics(path: Path) -> None:
    generator = np.random.default_rng(0)
    rows: list[tuple[object, ...]] = []
    wall = 100.0
    for tag, start, last in (("stage1/press-yellow-button", 0.5, 0.98), ("stage1/push-green-cylinder-left", 0.3, 0.9)):
        for episode in range(1, 481):
            wall += 0.2
            rate = start + (last - start) * min(1.0, episode / 300)
            rows.append((episode, "success", float(generator.random() < rate), f"{wall:.1f}", tag))
            rows.append((episode, "episode_steps", 60 - 30 * rate, f"{wall:.1f}", tag))
            if episode % 16 == 0:
                rows += [(episode, "approx_kl", 0.01 + 0.01 * generator.random(), wall, tag),
                         (episode, "clipfrac", 0.1 + 0.1 * generator.random(), wall, tag),
                         (episode, "explained_variance", 0.9 - np.exp(-episode / 80), wall, tag)]  # fmt: skip
    for tag in ("stage0", "stage2/press-yellow-button", "stage2/push-green-cylinder-left"):
        for step in range(10, 801, 10):
            loss = 0.02 + 0.3 * np.exp(-step / 120) * (1 + 0.1 * generator.random())
            rows.append((step, "loss", loss if tag == "stage0" else loss / 5, step / 10, tag))
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([("step", "name", "value", "wall_s", "tag"), *rows])


def clip(label: str, success: bool, steps: int) -> Clip:
    frames = np.full((steps + 1, 64, 64, 3), 150, np.uint8)
    for t in range(steps + 1):
        frames[t, 20:30, t % 54 : t % 54 + 10] = (200, 60, 40)
    return Clip(frames, "press the yellow button", label, success)


def make_run(folder: Path, seed: int = 7, videos: bool = True) -> Path:
    """A complete run with the figures of ``SFT`` and ``IREVLA``."""
    noisy = evaluation("sft@stochastic", {"expert": 40, "rl": 12, "unseen": 20}, deterministic=False)
    for one in (SFT, IREVLA, noisy):
        one.write(folder)
    write_metrics(folder / "metrics.csv")
    (folder / "config.yaml").write_text("seed: 7\nnote: a < b & c\n")
    timeline = [StageSpan("data", "expert data", 0, 40), StageSpan("stage 0", "SFT", 40, 160),
                StageSpan("evaluate", "evaluate SFT", 160, 200),
                StageSpan("stage 1", "PPO", 200, 300, "press-yellow-button"),
                StageSpan("stage 2", "supervised", 300, 350, "press-yellow-button"),
                StageSpan("stage 1", "PPO", 350, 460, "push-green-cylinder-left"),
                StageSpan("stage 2", "supervised", 460, 515, "push-green-cylinder-left"),
                StageSpan("evaluate", "evaluate iRe-VLA", 515, 560)]  # fmt: skip
    summarise(read_evaluations(folder), seed=seed, wall_s=562.3, timeline=timeline,
              milestones=milestones(read_metrics(folder / "metrics.csv")), suite="demo",
              command=f"irevla demo --seed {seed}", software={"irevla_ros": "0.1.0", "python": "3.11.2"},
              parameters=312_000).write(folder)  # fmt: skip
    if videos:
        for start in (1, 2):
            pair = [clip("SFT", False, 60), clip("iRe-VLA", True, 31)]
            write_video(folder / "videos" / f"press-{start}.webp", pair, "press-yellow-button", "rl", start)
    return folder


class Checker(HTMLParser):
    """Fails on tags that do not nest; collects visible text, attributes and table rows."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.links: list[str] = []
        self.rows: list[list[str]] = []
        self.tables = 0
        self.feed(document)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.tables += tag == "table"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self.rows and self.open and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    @property
    def visible(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


def read_report(folder: Path) -> Checker:
    return Checker(write_report(folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture(scope="module")
def complete(run_folder: Path) -> Checker:
    return read_report(run_folder)


def test_summary_has_the_required_shape(run_folder: Path) -> None:
    content = json.loads((run_folder / "summary.json").read_text())
    assert content["methods"] == {
        "sft": {"expert": {"successes": 92, "episodes": 100}, "rl": {"successes": 40, "episodes": 100},
                "unseen": {"successes": 25, "episodes": 50}},
        "irevla": {"expert": {"successes": 90, "episodes": 100}, "rl": {"successes": 90, "episodes": 100},
                   "unseen": {"successes": 30, "episodes": 50}},
    }  # fmt: skip
    assert (content["seed"], content["wall_s"]) == (7, 562.3)
    assert content["others"]["sft@stochastic"]["rl"] == {"successes": 24, "episodes": 100}
    task = content["tasks"]["irevla"]["press-yellow-button"]
    assert (task["category"], task["successes"], task["episodes"]) == ("rl", 45, 50)
    assert task["outcomes"] == [True] * 45 + [False] * 5
    assert task["start_seeds"][0] == 1000


def test_summary_survives_a_round_trip(run_folder: Path) -> None:
    summary = read_summary(run_folder)
    assert summary.tasks["sft"]["push-blue-cube-right"].rate == Rate(25, 50)
    assert read_summary(summary.write(run_folder / "again").parent) == summary
    on_an_arm = replace(summary, simulated=False)
    assert read_summary(on_an_arm.write(run_folder / "again").parent) == on_an_arm
    assert on_an_arm.caveat == "This is a small model (0.31 M parameters) on a robot; it is not the paper's set-up."


def test_paired_difference_is_taken_over_shared_start_states_only() -> None:
    # RL-trained: of 100 shared starts, 50 turned from failure to success and none the other way: +0.50;
    # 90/100 in [.825633, .944772] after, 40/100 in [.309401, .497997] before, phi = (40 * 10 - 50) / sqrt(90 * 10 * 40 * 60).
    summary = summarise({"sft": SFT, "irevla": IREVLA}, seed=0, wall_s=1)
    rl = next(one for one in summary.paired if one.category == "rl")
    assert (rl.after, rl.before, rl.difference.episodes) == ("irevla", "sft", 100)
    assert rl.difference.mean == pytest.approx(0.50)
    assert (rl.difference.low, rl.difference.high) == pytest.approx((0.3920, 0.5910), abs=1e-4)
    other_starts = Evaluation("irevla", "c", True, (EvaluatedEpisode("press-red-button", "expert", 5, True, 3),))
    assert summarise({"sft": SFT, "irevla": other_starts}, seed=0, wall_s=1).paired == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": "7"}, r"field 'seed' is '7': int is required"),
        ({"methods": None}, r"field 'methods' is None: dict is required"),
        ({"methods": {"sft": {"expert": {"successes": 1, "episodes": 2}}}}, r"methods sft field 'rl': .* missing"),
        ({"methods": {"sft": {c: {"successes": 3, "episodes": 2} for c in ("expert", "rl", "unseen")}}},
         r"methods sft expert has 3 successes in 2 episodes: successes lie between 0 and episodes"),
        ({"timeline": [{"stage": "stage 0", "label": "SFT", "start_s": 0}]}, r"timeline\[0\] field 'end_s'"),
    ],
)  # fmt: skip
def test_wrong_summary_is_refused_by_field(tmp_path: Path, change: dict[str, object], message: str) -> None:
    content = {"methods": {}, "seed": 0, "wall_s": 1.0} | change
    (tmp_path / "summary.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_summary(tmp_path)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"summary\.json: the file does not exist; give the folder of a run"):
        read_summary(tmp_path)
    (tmp_path / "summary.json").write_text('{"methods": ')
    with pytest.raises(DataError, match=r"summary\.json: not valid JSON"):
        read_summary(tmp_path)
    with pytest.raises(DataError, match=r"a run folder has summary\.json, evaluations/ or metrics\.csv"):
        write_report(tmp_path / "nothing")


def test_evaluation_refuses_what_would_corrupt_the_counts() -> None:
    one = EvaluatedEpisode("press-red-button", "expert", 1, True, 30)
    with pytest.raises(DataError, match=r"seed 1: a start state is evaluated once"):
        Evaluation("sft", "c", True, (one, one))
    with pytest.raises(DataError, match=r"category 'novel': categories are expert, rl, unseen"):
        Evaluation("sft", "c", True, (EvaluatedEpisode("t", "novel", 1, True, 30),))
    with pytest.raises(DataError, match="a label is a method or method@variant"):
        Evaluation("../sft", "c", True, (one,))


def test_metrics_of_a_killed_and_resumed_run(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,name,value,wall_s,tag\n1,loss,3,1,stage0\n2,loss,2,2,stage0\n3,loss,9,3,stage0\n"
                    "2,loss,1.5,12,stage0\n3,loss,1,13,stage0\n4,lo")  # fmt: skip
    loss = read_metrics(path)["stage0", "loss"]
    assert loss.step.tolist() == [1, 2, 3]
    assert loss.value.tolist() == [3, 1.5, 1]
    path.write_text("step,name,value,wall_s,tag\n1,loss\n2,loss,2,2,stage0\n")
    with pytest.raises(DataError, match=r"line 2 '1,loss'"):
        read_metrics(path)
    path.write_text("a,b\n")
    with pytest.raises(DataError, match="columns are step,name,value,wall_s,tag"):
        read_metrics(path)


def test_moving_success_by_hand() -> None:
    steps = np.arange(1.0, 7.0)
    single = Series(steps, np.array([0.0, 1, 1, 0, 1, 1]), steps)
    np.testing.assert_allclose(moving_success(single, window=3), [0, 1 / 2, 2 / 3, 2 / 3, 2 / 3, 2 / 3])
    # Batches of 2 and 4 episodes: 1 success, then 3; the window of 3 falls inside the second batch.
    batches = Series(np.array([2.0, 6.0]), np.array([0.5, 0.75]), np.array([1.0, 2.0]))
    np.testing.assert_allclose(moving_success(batches, window=3), [0.5, 0.75])


def test_milestones_by_hand() -> None:
    steps = np.arange(1.0, 101.0)
    success = Series(steps, (steps > 40).astype(float), 10 + steps)
    lengths = Series(steps, np.full(100, 20.0), 10 + steps)
    found = milestones({("stage1/a", "success"): success, ("stage1/a", "episode_steps"): lengths,
                        ("stage0", "success"): success})  # fmt: skip
    # 50-episode window: 43 of 50 (.86) after episode 83; 48 of 50 (.96) after episode 88; 20 steps of 0.1 s each.
    assert found == (Milestone("stage1/a", 0.85, 83, 166.0, 82.0), Milestone("stage1/a", 0.95, 88, 176.0, 87.0))
    never = milestones({("stage1/a", "success"): Series(steps, np.zeros(100), steps)})
    assert never[0] == Milestone("stage1/a", 0.85, None, None, None)
    short = milestones({("stage1/a", "success"): Series(steps[:10], np.ones(10), steps[:10])})
    assert short[0].episodes is None  # ten successes are not yet a rate over fifty


def test_table_shows_hand_computed_intervals(complete: Checker) -> None:
    # Wilson at 95 %: 92/100 -> [0.850, 0.959]; 90/100 -> [0.826, 0.945]; 40/100 -> [0.309, 0.498];
    # 25/50 -> [0.366, 0.634]; 30/50 -> [0.462, 0.724].
    rows = {row[0]: row[1:] for row in complete.rows[:7]}
    assert rows["method"] == ["expert tasks", "RL-trained tasks", "unseen tasks"]
    assert rows["SFT"] == ["0.92 [0.85, 0.96] n=100", "0.40 [0.31, 0.50] n=100", "0.50 [0.37, 0.63] n=50"]
    assert rows["iRe-VLA"] == ["0.90 [0.83, 0.94] n=100", "0.90 [0.83, 0.94] n=100", "0.60 [0.46, 0.72] n=50"]
    assert rows["paper, SFT"] == ["0.83", "0.41", "0.51"]
    assert rows["paper, iRe-VLA"] == ["0.84", "0.89", "0.81"]
    assert ["iRe-VLA − SFT", "RL-trained", "+0.50 [+0.39, +0.59] n=100"] in complete.rows


def test_report_is_self_contained_and_says_what_it_is(complete: Checker, run_folder: Path) -> None:
    assert complete.links
    assert all(link.startswith("data:") for link in complete.links)
    assert sum(link.startswith("data:image/webp") for link in complete.links) == 2
    assert sum(link.startswith("data:image/svg+xml") for link in complete.links) == 6
    assert "What is missing" not in complete.visible
    caveat = "This is a small model (0.31 M parameters) in simulation; it is not the paper's set-up."
    # Under the tiles, and above every table but the one of versions.
    assert complete.visible.count(caveat) == 1 + (complete.tables - 1)
    assert "irevla demo --seed 7" in complete.visible
    assert "note: a < b & c" in complete.visible
    names = {path.name for path in (run_folder / "plots").iterdir()}
    wanted = ("categories", "tasks", "learning_curves", "supervised_losses", "ppo_diagnostics", "timeline")
    assert names == {f"{name}.{kind}" for name in wanted for kind in ("png", "svg")}


def test_interrupted_run_still_renders(tmp_path: Path) -> None:
    SFT.write(tmp_path)
    seen = read_report(tmp_path).visible
    for sentence in (
        "summary.json is missing: the run was interrupted early",
        "Only SFT was evaluated: there is nothing to compare it with.",
        "There is no learning curve",
        "There is no stage timeline.",
        "There are no videos.",
        "The configuration (config.yaml) is missing.",
    ):
        assert sentence in seen
    assert "0.92" in seen


def test_metrics_alone_render(tmp_path: Path) -> None:
    write_metrics(tmp_path / "metrics.csv")
    seen = read_report(tmp_path).visible
    assert "No method has been evaluated." in seen
    assert "Cost until the last 50 training episodes" in seen


def test_a_category_without_episodes_is_said(tmp_path: Path) -> None:
    Evaluation("sft", "c", True, tuple(e for e in SFT.episodes if e.category != "unseen")).write(tmp_path)
    summarise(read_evaluations(tmp_path), seed=1, wall_s=30, complete=False).write(tmp_path)
    seen = read_report(tmp_path).visible
    assert "SFT was not evaluated on unseen tasks." in seen
    assert "interrupted or is still under way" in seen


def test_text_is_escaped(tmp_path: Path) -> None:
    bad = "<script>alert('x')</script>"
    task = f"press {bad}"
    for label in ("sft", "irevla"):
        Evaluation(label, bad, True, (EvaluatedEpisode(task, "rl", 1, True, 3),)).write(tmp_path)
    (tmp_path / "config.yaml").write_text(bad)
    summarise(read_evaluations(tmp_path), seed=1, wall_s=3, suite=bad, command=bad, software={bad: bad},
              milestones=[Milestone(f"stage1/{bad}", 0.85, None, None, None)],
              timeline=[StageSpan(bad, bad, 0, 3)]).write(tmp_path)  # fmt: skip
    write_video(tmp_path / "videos" / "a.webp", [Clip(clip("a", True, 1).frames, bad, "a", True)], task, bad, 1)
    document = write_report(tmp_path).read_text()
    assert "<script" not in document
    assert Checker(document).visible.count(bad) >= 8


def test_study_pools_over_seeds(tmp_path: Path) -> None:
    for seed, rl in ((1, 45), (2, 40), (3, 50)):
        folder = tmp_path / "study" / f"irevla-{seed}"
        SFT.write(folder)
        evaluation("irevla", {"expert": 45, "rl": rl, "unseen": 30}).write(folder)
        summarise(read_evaluations(folder), seed=seed, wall_s=9,
                  milestones=[Milestone("stage1/a", 0.85, 100 * seed, 60.0 * seed, 30.0)]).write(folder)  # fmt: skip
    again = tmp_path / "study" / "ppo-replay-1"  # shares its SFT with irevla-1: counted once
    SFT.write(again)
    evaluation("ppo-replay", {"expert": 40, "rl": 30, "unseen": 30}).write(again)
    summarise(read_evaluations(again), seed=1, wall_s=9).write(again)

    pooled = pool(read_study(tmp_path / "study"))
    assert list(pooled) == ["sft", "ppo-replay", "irevla"]
    assert pooled["sft"]["rl"].rate == Rate(120, 300)
    rl = pooled["irevla"]["rl"]
    assert rl.rate == Rate(270, 300)
    assert rl.means == (0.9, 0.8, 1.0)
    assert (rl.mean, rl.spread) == pytest.approx((0.9, 0.1))

    out = tmp_path / "docs"
    assert {path.name for path in write_study(tmp_path / "study", out)} == {path.name for path in out.iterdir()}
    text = (out / "study.md").read_text()
    # 270/300 -> Wilson [0.861, 0.929]; seeds gain .50, .40 and .60 on 100 starts each.
    assert "**0.90** [0.86, 0.93] n=300; ± 0.10 (0.90, 0.80, 1.00)" in text
    assert "+0.50 [+0.44, +0.55] n=300 (+0.50, +0.40, +0.60)" in text
    assert "| iRe-VLA | 0.85 | 3 of 3 | 200 | 2.0 min |" in text
    assert text.count("This is a small model") == 3
    with (out / "study.csv").open() as stream:
        row = next(row for row in csv.DictReader(stream) if (row["method"], row["category"]) == ("irevla", "rl"))
    assert (row["mean_over_seeds"], row["episodes"], row["seed_min"], row["seed_max"]) == ("0.9000", "300", "0.8000",
                                                                                           "1.0000")  # fmt: skip


def test_study_refuses_two_results_for_one_seed(tmp_path: Path) -> None:
    for name, one in (("a", SFT), ("b", evaluation("sft", {"expert": 1}))):
        Summary(seed=1, wall_s=1, methods=summarise({"sft": one}, seed=1, wall_s=1).methods).write(tmp_path / name)
    with pytest.raises(DataError, match=r"sft with seed 1 in .*a and .*b: a method has one result for each seed"):
        read_study(tmp_path)
    with pytest.raises(DataError, match="no run below it has evaluated a method"):
        read_study(tmp_path / "nothing")


def test_every_method_has_a_name() -> None:
    assert METHODS.keys() <= METHOD_NAMES.keys()
    assert PAPER_META_WORLD.keys() <= METHODS.keys()
    assert display_name("irevla@iteration-1") == "iRe-VLA, iteration 1"


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "evaluations").write_text("a file in the way")
    with pytest.raises(DataError, match=r"sft\.json: File exists: the folder must be writable; free space"):
        SFT.write(tmp_path)


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    SFT.write(Path("runs/mine"))
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    assert cli.run(parser.parse_args(["mine"])) == 0
    assert capsys.readouterr().out.strip() == "runs/mine/report.html"
    with pytest.raises(ConfigError, match="name one: mine"):
        cli.run(parser.parse_args([]))
    with pytest.raises(ConfigError, match="needs --out"):
        cli.run(parser.parse_args(["--study", "runs"]))
