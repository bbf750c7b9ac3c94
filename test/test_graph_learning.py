"""Algorithm 1 over toy arms: the whole of it, the gate, what is not accepted, and resuming after real kills."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from irevla_ros.core.errors import BusyError, ConfigError
from irevla_ros.core.graph_messages import Announcement, LearnerStatus, PolicyVersion, Proposal
from irevla_ros.core.types import ControlSource, Mode, Outcome
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.spool import Spool
from irevla_ros.jobs.gate import GATE_SEED, decide
from irevla_ros.jobs.graph_config import shipped_policy
from irevla_ros.jobs.graph_learning import GraphLearner, Order, Request
from irevla_ros.jobs.graph_setup import open_learner
from irevla_ros.jobs.head_training import HeadTraining
from irevla_ros.jobs.practice import Practice, as_labelled, encode
from irevla_ros.jobs.summary import EvaluatedEpisode
from irevla_ros.jobs.supervised_manifest import read_manifest
from irevla_ros.jobs.train import Trainer
from irevla_ros.learn.irevla import Finish, RunSupervised, UpdateHead
from irevla_ros.policy.checkpoint import load_vla
from irevla_ros.policy.tensor_file import read_tensors
from irevla_ros.sim.env import PandaEnv
from learner_toys import STEPS, TASK, ToyArm, demonstrations, drive, even, fresh_policy, obey, settings
from spool_toys import toy_episode

HERE = Path(__file__).resolve().parent

pytestmark = pytest.mark.timeout(1200)  # whole runs; minutes on a busy machine


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fresh_policy(tmp_path_factory.mktemp("vla") / "fresh")


def opened(run: Path, sft: Path, **arguments: object) -> tuple[GraphLearner, dict[str, ToyArm]]:
    demonstrations(run)
    learner = open_learner(settings(run, sft, **arguments))  # type: ignore[arg-type]
    return learner, {name: ToyArm(name, run) for name in ("a", "b")}


def closed(learner: GraphLearner) -> None:
    learner.close()
    learner.record.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, sft: Path) -> tuple[Path, list[Request]]:
    run, said = tmp_path_factory.mktemp("runs") / "whole", list[Request]()
    learner, toys = opened(run, sft, overrides=("videos=1",))

    def seen(request: Request) -> None:
        # Between two messages about the status pass 0.2 s; here, with everything in one thread, much happens in that time.
        said.extend([learner.status()] if isinstance(request, LearnerStatus) else [request, learner.status()])

    drive(learner, toys, seen=seen)
    closed(learner)
    return run, [*said, learner.status()]


def test_a_run_in_the_graph_leaves_what_one_of_irevla_train_does(whole: tuple[Path, list[Request]]) -> None:
    run, _ = whole
    summary = json.loads((run / "summary.json").read_text())
    assert summary["complete"] is True and set(summary["methods"]) == {"sft", "irevla-sacfd"}
    # Seeds 1000000 to 1000003: the even ones succeed, whatever the policy.
    for method in ("sft", "irevla-sacfd"):
        assert summary["methods"][method]["rl"] == {"successes": 2, "episodes": 4}
        assert summary["methods"][method]["expert"] == {"successes": 0, "episodes": 0}
    assert [one["mean"] for one in summary["paired"]] == [0.0]
    for name in ("config.yaml", "metrics.csv", "log.txt", "report.html", "d_rl.json", "tensorboard", "timeline.json"):
        assert (run / name).exists(), name
    # Before and after, of the one task that was practised; taken from the episodes of the evaluations.
    assert {path.name for path in (run / "videos").iterdir()} == {f"{TASK}-1000000.{end}" for end in ("webp", "json")}
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"sft", f"1-{TASK}-stage1", f"1-{TASK}-stage2"}


def test_practice_is_that_of_irevla_train(whole: tuple[Path, list[Request]]) -> None:
    """Same seeds, a mode in which the policy acts, and the time limit of the task: 30 steps at 10 Hz."""
    run, said = whole
    starts = [one.start for one in said if isinstance(one, Order)]
    practised = [start for start in starts if start.mode is Mode.TRAIN]
    assert [start.seed for start in practised] == list(range(200_000, 200_014))  # 12 in stage 1, 2 harvested
    assert [start.deterministic for start in practised] == [False] * 12 + [True] * 2
    assert {(start.task, start.instruction, start.time_limit_ns) for start in practised} == {
        (TASK, "push the blue cube left", 3_000_000_000)
    }
    d_rl = json.loads((run / "d_rl.json").read_text())[TASK]
    reader = SpoolReader(run / "practice")
    records = [reader.record(name) for name in d_rl]
    assert [record.meta.seed % 2 for record in records] == [0] * 7  # of 14, and none of the evaluations
    assert {record.meta.mode for record in records} == {Mode.TRAIN}


def test_the_newest_successes_of_several_arms_are_newest_in_time(tmp_path: Path, sft: Path) -> None:
    """Episodes of arm a and b by turns, of rising seeds: the newest four are two of each, and none is an evaluation."""
    learner, _ = opened(tmp_path / "run", sft)
    spool = learner.record.practice
    for number in range(1, 5):
        for arm, add in (("a", 0), ("b", 1)):
            episode = toy_episode(f"toy-{arm}-{number:06d}", steps=2)
            meta = replace(episode.meta, task=TASK, mode=Mode.TRAIN, seed=200_000 + 2 * number + add, outcome=Outcome.SUCCESS,
                           run_id="toy")  # fmt: skip
            spool.write_episode(replace(episode, meta=meta))
    spool.write_episode(toy_episode("other-000001", steps=2, seed=200_099, task=TASK, run_id="other"))
    learner.record.add_to_d_rl(TASK, 4, "toy")
    assert learner.record.d_rl()[TASK] == ["toy-a-000003", "toy-a-000004", "toy-b-000003", "toy-b-000004"]
    closed(learner)


def test_every_policy_has_a_version_of_its_own(whole: tuple[Path, list[Request]]) -> None:
    _run, said = whole
    announced = [one for one in said if isinstance(one, Announcement)]
    assert [one.version for one in announced] == list(range(1, len(announced) + 1))
    heads = [one.head for one in announced]
    # Stage 0; stage 1 as it begins and after the updates at 8 and 12 episodes (the first 4 gave the demonstrations).
    assert heads[:4] == ["", *(f"heads/head-{version:06d}.safetensors" for version in (1, 2, 3))]
    # The gate measures what there was and what there is now, and that stays.
    assert [one.checkpoint for one in announced[4:]] == ["checkpoints/sft", f"checkpoints/1-{TASK}-stage2"]


def test_the_status_tells_where_it_is(whole: tuple[Path, list[Request]]) -> None:
    said = [one for one in whole[1] if isinstance(one, LearnerStatus)]
    stages = [one.stage for n, one in enumerate(said) if n == 0 or said[n - 1].stage != one.stage]
    assert stages == ["starting", "evaluation", "stage 1", "harvest", "stage 2", "gate", "evaluation", "finishing", "finished"]
    assert {one.stage for one in said if one.finished} == {"finished"}
    assert {one.detail for one in said if one.stage == "stage 2"} >= {
        "supervised learning has the machine; no orders until it is done"
    }
    practised = [(one.done, one.of) for one in said if one.stage == "stage 1"]
    assert max(practised) == (12, 12) and sorted(practised) == practised
    assert Proposal(TASK, "push the blue cube left", Mode.TRAIN) in whole[1]


def test_a_stage_2_that_makes_it_worse_is_not_adopted(tmp_path: Path, sft: Path) -> None:
    run = tmp_path / "refused"
    learner, toys = opened(run, sft)
    for toy in toys.values():
        toy.succeeds = lambda start, announced: even(start, announced) and "stage2" not in announced.checkpoint
    drive(learner, toys)
    closed(learner)
    (decision,) = json.loads((run / "gates.json").read_text())
    # 4 RL starts and 1 of each of 9 expert tasks (4 shared by 9), of which the even seeds succeed: 2 of 4, and 9 of 9.
    assert decision == {"candidate": f"1-{TASK}-stage2", "present": "sft", "episodes": 13, "margin": 0.2, "adopted": False,
                        "differences": {"expert": -1.0, "rl": -0.5}}  # fmt: skip
    assert learner.machine.next() == Finish("sft") and learner.machine.deployed == "sft"
    evaluations = {p.stem: json.loads(p.read_text()) for p in (run / "evaluations").glob("*.json")}
    assert evaluations["irevla-sacfd"]["checkpoint"] == "sft"
    assert "refused, sft stays" in (run / "log.txt").read_text() and "not adopted" in (run / "report.html").read_text()


def test_the_gate_decides_by_category_on_shared_starts() -> None:
    def episodes(category: str, outcomes: str) -> list[EvaluatedEpisode]:
        return [EvaluatedEpisode(category, category, GATE_SEED + i, one == "1", 3) for i, one in enumerate(outcomes)]

    before = episodes("rl", "1010") + episodes("expert", "1111111111")
    for rl, expert, adopted in (("1010", "1111111110", True), ("1111", "1111111100", False), ("1000", "1" * 10, False)):
        decision = decide("new", episodes("rl", rl) + episodes("expert", expert), "old", before, 0.1)
        assert decision.adopted is adopted, (rl, expert)
        assert decision.differences["rl"] == rl.count("1") / 4 - 0.5


def test_ppo_learns_from_the_version_that_it_announced_and_no_other(tmp_path: Path, sft: Path) -> None:
    run, stale, newest = tmp_path / "ppo", 5, list[Announcement]()
    learner, toys = opened(run, sft, method="irevla", overrides=("learning.stage2_steps=1",), gate=0)

    def lag(request: Request) -> None:
        """The policy is slow to take over the second head: five episodes are the first head's still."""
        nonlocal stale
        if isinstance(request, Announcement):
            newest[:] = [request]
        elif isinstance(request, Order):
            late = stale > 0 and newest[0].version == 3
            stale -= late
            for toy in toys.values():
                toy.announced = replace(newest[0], version=2) if late else newest[0]

    drive(learner, toys, seen=lag)
    assert stale == 0 and learner.book.rejected == 5
    ledger = json.loads((run / "collected.json").read_text())
    reader = SpoolReader(run / "practice")
    for first, version in ((0, 2), (4, 3), (8, 4)):
        ids = ledger[f"{TASK} {first}"]["ids"]
        assert [set(reader.read(name).head_version) for name in ids] == [{version}] * 4
        assert [reader.record(name).meta.seed for name in ids] == list(range(200_000 + first, 200_004 + first))
    closed(learner)


def test_episodes_of_another_run_in_the_folder_are_not_taken(tmp_path: Path, sft: Path) -> None:
    """Of the task, seed, mode and version that are wanted, but the version is one of another run's policy."""
    learner, toys = opened(tmp_path / "run", sft, method="irevla")
    practising = until_practice(learner)
    drive(learner, toys, until=lambda: practising() and len(learner.book.wanted) > 0)
    wanted = learner.book.wanted[0]
    assert wanted.versions is not None
    version = max(wanted.versions)
    for run, answer in (("other", "it is of run 'other', this is 'toy'"), ("toy", "")):
        episode = toy_episode(f"{run}-000001", steps=2, task=wanted.task, mode=wanted.mode, run_id=run)
        policy = np.full(2, ControlSource.POLICY, np.uint8)
        episode = replace(episode, meta=replace(episode.meta, seed=wanted.seed), source=policy,
                          head_version=np.full(2, version, np.int64))  # fmt: skip
        learner.record.practice.write_episode(episode)
        assert learner.practice.examine(f"{run}-000001", wanted) == answer
        assert (0 in learner.practice.find([wanted])) == (run == "toy")
    closed(learner)


def test_a_run_whose_folder_was_renamed_says_so(tmp_path: Path, sft: Path) -> None:
    learner, toys = opened(tmp_path / "run", sft)
    drive(learner, toys, until=until_practice(learner))
    closed(learner)
    with pytest.raises(ConfigError, match=r"run_id = 'new': the run in .* is 'toy', as are its episodes"):
        open_learner(settings(tmp_path / "run", sft, run_id="new"))


def test_while_it_learns_it_tells_whether_arms_still_run(tmp_path: Path, sft: Path) -> None:
    learner, toys = opened(tmp_path / "run", sft)
    drive(learner, toys, until=lambda: learner.status().detail.startswith("learning"))
    details = [learner.status().detail]
    while orders := [one for one in learner.requests(time.monotonic()) if isinstance(one, Order)]:  # the update is not done
        for order in orders:
            obey(learner, toys, order)
            details.append(learner.status().detail)
    closed(learner)
    assert len(details) > 2 and set(details[:-1]) == {"learning; the arms run the next episodes, then wait"}
    assert details[-1] == "learning; the arms wait"


def until_practice(learner: GraphLearner) -> Callable[[], bool]:
    return lambda: learner.status().stage == "stage 1" and learner.status().detail == "practising"


def test_a_person_in_an_evaluation_spoils_it_and_in_practice_does_not(tmp_path: Path, sft: Path) -> None:
    run = tmp_path / "run"
    learner, toys = opened(run, sft)
    drive(learner, toys, until=until_practice(learner))
    toy, announced = toys["a"], toys["a"].announced
    practice = Practice(learner.record.practice, "toy")
    assert announced is not None
    for mode, verdict in ((Mode.EVAL, "3 of 3 steps are not the policy's"), (Mode.TRAIN, "")):
        wanted = learner._episodes.episode(TASK, 7, mode, False, frozenset({announced.version}) if mode is Mode.EVAL else None)
        toy.begin(wanted.start())
        toy.end(Outcome.SUCCESS, source=ControlSource.HUMAN)
        assert practice.examine(toy.state.episode_id, wanted) == verdict
        toy.idle()
    closed(learner)


def test_episodes_without_latents_are_encoded_before_they_are_learned_from(tmp_path: Path, sft: Path) -> None:
    run = tmp_path / "run"
    learner, toys = opened(run, sft)
    for toy in toys.values():
        toy.latents = False
    drive(learner, toys, until=lambda: len(learner.machine.state.events) >= 3)
    closed(learner)
    vla, _ = load_vla(run / "checkpoints" / "sft")
    fingerprint = vla.backbone.fingerprint()
    reader = SpoolReader(run / "practice")
    ids = json.loads((run / "collected.json").read_text())[f"{TASK} 0"]["ids"]
    assert len(ids) == 4
    for name in ids:
        episode = reader.read(name, fingerprint=fingerprint)
        assert episode.latents is not None and episode.latents.shape[0] == STEPS + 1
        assert np.array_equal(episode.latents, encode(vla, episode))


def test_back_filled_latents_are_those_that_acting_gives(sft: Path) -> None:
    vla, _ = load_vla(sft)
    env = PandaEnv("demo")
    observed, _ = env.reset(seed=3, options={"task": TASK})
    observation = env.observation(observed)
    still = toy_episode(steps=1, cameras={"front": (64, 64)})
    still = replace(still, images={"front": np.stack([observation.images["front"]] * 2)},
                    meta=replace(still.meta, instruction=observation.instruction))  # fmt: skip
    _, latents = vla.act([observation])
    assert np.abs(encode(vla, still)[0].astype(np.float32) - latents[0].float().numpy()).max() < 1e-2
    env.close()


def test_a_verdict_given_later_changes_the_reward_and_discarding_asks_again(tmp_path: Path, sft: Path) -> None:
    failed = toy_episode(steps=3, outcome=Outcome.FAILURE)
    failed = replace(failed, terminated=np.zeros(3, bool), truncated=np.array([False, False, True]))
    success = as_labelled(replace(failed, meta=replace(failed.meta, outcome=Outcome.SUCCESS)), Outcome.FAILURE)
    assert success.reward[-1] == 1.0 and success.terminated.tolist() == [False, False, True] and not success.truncated.any()
    assert as_labelled(failed, Outcome.FAILURE) is failed
    # Judged between its end by time and its sealing: learned from as if judged a moment later.
    sealed = replace(failed, meta=replace(failed.meta, outcome=Outcome.SUCCESS), reward=np.float32([0.0, 0.25, 1.25]))
    success = as_labelled(sealed, Outcome.SUCCESS)
    assert success.terminated.tolist() == [False, False, True] and not success.truncated.any()
    assert success.reward.tolist() == [0.0, 0.25, 1.25]

    run = tmp_path / "run"
    learner, toys = opened(run, sft)
    discarded: list[str] = []

    def discard(request: Request) -> None:
        if isinstance(request, Order) and len(learner.book.accepted) == 2 and not discarded:
            discarded.append(learner.book.accepted[0])
            learner.record.practice.label(discarded[0], None, "tester", discard=True)

    drive(learner, toys, seen=discard, until=lambda: len(learner.machine.state.events) >= 1)
    closed(learner)
    evaluated = json.loads((run / "evaluations" / "sft.json").read_text())["episodes"]
    assert len(evaluated) == 4 and len(discarded) == 1
    first = [r for r in SpoolReader(run / "practice").episodes(discarded=True) if r.meta.seed == 1_000_000]
    assert sorted(record.discarded for record in first) == [False, True]


def test_stage_2_imitates_no_episode_that_was_judged_a_failure_since(tmp_path: Path, sft: Path) -> None:
    """Four of D_RL; one is discarded and one judged anew before stage 2 begins."""
    learner, _ = opened(tmp_path / "run", sft)
    practice, names = learner.record.practice, [f"toy-a-{number:06d}" for number in range(1, 5)]
    for number, name in enumerate(names):
        episode = toy_episode(name, STEPS, cameras={"front": (64, 64)}, task=TASK, run_id="toy")
        practice.write_episode(replace(episode, meta=replace(episode.meta, seed=200_000 + number)))
    learner.record.add_to_d_rl(TASK, 4, "toy")
    practice.label(names[1], None, "ada", discard=True)
    practice.label(names[2], Outcome.FAILURE, "ada")
    command = RunSupervised(2, "sft", "sft", ("expert", "rl"), "all", 1, "stage2")
    manifest = learner._training.manifest(command)
    assert [one.id for one in manifest.sources[1].episodes] == [names[0], names[3]]
    closed(learner)


def same_tensors(one: Path, other: Path) -> bool:
    """Bit for bit; the order of a file's metadata is not always the same."""
    first, second = read_tensors(one), read_tensors(other)
    same = first.tensors.keys() == second.tensors.keys() and first.metadata == second.metadata
    return same and all(torch.equal(tensor, second.tensors[name]) for name, tensor in first.tensors.items())


class StopAfter(threading.Event):
    """Asks to stop, or dies as by a kill, when it is asked for the ``steps``-th time."""

    def __init__(self, steps: int, dies: bool = False) -> None:
        super().__init__()
        self.steps, self.dies = steps, dies

    def is_set(self) -> bool:
        self.steps -= 1
        if self.steps < 0 and self.dies:
            raise KeyboardInterrupt
        return self.steps < 0


@pytest.mark.parametrize("dies", [False, True])
def test_an_update_that_is_broken_off_is_gone_on_with_bit_for_bit(tmp_path: Path, sft: Path, monkeypatch: pytest.MonkeyPatch,
                                                                  dies: bool) -> None:  # fmt: skip
    monkeypatch.setattr("irevla_ros.jobs.head_training.SAVE_S", 0.0)
    run, whole = tmp_path / "run", tmp_path / "whole"
    learner, toys = opened(run, sft)
    drive(learner, toys, until=lambda: isinstance(learner.machine.next(), UpdateHead))
    command = learner.machine.next()
    assert isinstance(command, UpdateHead)
    closed(learner)
    shutil.copytree(run, whole)
    learner, _ = opened(whole, sft)
    assert learner._training.resume() and learner._training.update(command, threading.Event())
    closed(learner)
    learner, _ = opened(run, sft)
    training = learner._training
    assert training.resume()
    before = training.stage1.learner.updates
    with contextlib.suppress(KeyboardInterrupt):
        assert training.update(command, StopAfter(3, dies)) is False
        assert not dies
    planned = training.updates[1]
    assert training.updates[0] == (3 if dies else 0) and (planned > 3 if dies else planned == 0)
    closed(learner)
    learner, _ = opened(run, sft)
    assert learner._training.resume() and learner._training.stage1.learner.updates == before + 3
    assert learner._training.update(command, threading.Event())
    closed(learner)
    for name in ("stage1.safetensors", HeadTraining.head(command.head_version)):
        assert same_tensors(run / name, whole / name), name


def test_an_update_that_is_stopped_leaves_no_trace(tmp_path: Path, sft: Path) -> None:
    learner, toys = opened(tmp_path / "run", sft)
    drive(learner, toys, until=lambda: isinstance(learner.machine.next(), UpdateHead))
    command, stop = learner.machine.next(), threading.Event()
    assert isinstance(command, UpdateHead)
    stop.set()
    saved = shutil.copy(tmp_path / "run" / "stage1.safetensors", tmp_path)
    assert learner._training.update(command, stop) is False
    assert same_tensors(tmp_path / "run" / "stage1.safetensors", Path(saved))
    closed(learner)


def test_irevla_train_does_not_go_on_with_a_run_of_the_graph(tmp_path: Path, sft: Path) -> None:
    learner, _ = opened(tmp_path / "run", sft)
    closed(learner)
    with pytest.raises(ConfigError, match="it was begun by the learner of the graph; irevla up"):
        Trainer(tmp_path / "run", learner.record.config, None)  # type: ignore[arg-type]


def test_wrong_settings_are_refused(tmp_path: Path, sft: Path) -> None:
    with pytest.raises(ConfigError, match="run = 'here': the absolute path"):
        open_learner(settings(Path("here"), sft))
    with pytest.raises(ConfigError, match="RL task 'push-blue-cube-lift'.*did you mean 'push-blue-cube-left'"):
        open_learner(settings(tmp_path / "a", sft, tasks=("push-blue-cube-lift",)))
    with pytest.raises(ConfigError, match="method 'whole-vla-ppo': in the graph stage 1 trains the head"):
        open_learner(settings(tmp_path / "a", sft, method="whole-vla-ppo"))
    with pytest.raises(ConfigError, match="the folder of a checkpoint or of a run"):
        open_learner(settings(tmp_path / "a", tmp_path))
    learner, _ = opened(tmp_path / "b", sft)
    with pytest.raises(BusyError, match="another process works in this folder"):
        open_learner(settings(tmp_path / "b", sft))
    closed(learner)
    for changed, text in (({"gate": 5}, "gate = 5: the run in .* began with 4"), ({"tasks": ("press-orange",)}, "tasks = "),
                          ({"sft": str(shipped_policy())}, "the run began with another checkpoint")):  # fmt: skip
        with pytest.raises(ConfigError, match=text):
            open_learner(replace(settings(tmp_path / "b", sft), **changed))
    with pytest.raises(ConfigError, match="another --name"):
        open_learner(settings(tmp_path / "b", sft, overrides=("seed=2",)))


def test_the_shipped_policy_is_whole_and_begins_a_run(tmp_path: Path) -> None:
    learner, toys = opened(tmp_path / "run", Path("shipped"))
    drive(learner, toys, until=lambda: toys["a"].announced is not None)
    announced = toys["a"].announced
    assert announced is not None and announced.checkpoint == "checkpoints/sft"
    assert load_vla(tmp_path / "run" / "checkpoints" / "sft")[0].cameras == ("front",)
    learner.on_version(PolicyVersion("toy", 0, "", "its cameras are others"))
    assert learner.problems() == ["the policy refuses what was announced: its cameras are others"]
    closed(learner)


def test_what_the_policy_does_not_act_with_is_announced_again(tmp_path: Path, sft: Path) -> None:
    """It may have failed to load it, or have heard a late copy of an earlier one: nobody else would ever say it again."""
    learner, toys = opened(tmp_path / "run", sft)
    drive(learner, toys, until=lambda: toys["a"].announced is not None)
    announced, now_s = toys["a"].announced, time.monotonic()
    assert announced is not None

    def said(after_s: float) -> list[Request]:
        return [one for one in learner.requests(now_s + after_s) if isinstance(one, Announcement)]

    learner.on_version(PolicyVersion("toy", announced.version, ""))
    assert said(0.0) == said(60.0) == []
    learner.on_version(PolicyVersion("toy", announced.version - 1, "", "the disk was away"))
    assert [len(said(after_s)) for after_s in (69.9, 70.1, 80.0, 80.2)] == [0, 1, 0, 1]
    closed(learner)


def test_given_demonstrations_are_all_that_stage_2_learns_from_beside_its_own(tmp_path: Path, sft: Path) -> None:
    """As on a robot, whose demonstrations no simulator can make: those of a collection, less what is none and what failed."""
    collection, run = tmp_path / "collection", tmp_path / "run"
    with pytest.raises(ConfigError, match="demonstrations = .*: a spool with successful episodes of mode demo; record some"):
        open_learner(settings(run, sft, overrides=(f"demonstrations={collection}",)))
    spool, wanted = Spool(collection / "practice"), ("good", Mode.DEMO, Outcome.SUCCESS)
    for name, mode, outcome in (wanted, ("bad", Mode.DEMO, Outcome.FAILURE), ("eval", Mode.EVAL, Outcome.SUCCESS)):
        spool.write_episode(toy_episode(name, STEPS, cameras={"front": (64, 64)}, mode=mode, outcome=outcome))
    learner = open_learner(settings(run, sft, overrides=(f"demonstrations={collection}",)))
    assert learner.expert is None
    drive(learner, {name: ToyArm(name, run) for name in ("a", "b")})
    closed(learner)
    manifest = read_manifest(run / "supervised" / f"1-{TASK}-stage2" / "manifest.json")
    expert, practised = manifest.sources
    assert (expert.spool, [one.id for one in expert.episodes]) == (collection / "practice", ["good"])
    assert practised.spool == run / "practice" and len(practised.episodes) == 7
    with pytest.raises(ConfigError, match="another --name"):
        open_learner(settings(run, sft))


def results(run: Path) -> dict[str, object]:
    """Weights of every checkpoint, and every evaluation."""
    weights = {p.parent.name: json.loads(p.read_text())["sha256"] for p in (run / "checkpoints").glob("*/config.json")}
    return {**weights, **{p.stem: json.loads(p.read_text()) for p in (run / "evaluations").glob("*.json")}}


def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(
    whole: tuple[Path, list[Request]], tmp_path: Path, sft: Path
) -> None:
    run, kills = tmp_path / "killed", 0
    demonstrations(run)
    command = [sys.executable, str(HERE / "learner_toys.py"), str(run), str(sft), "irevla-sacfd"]
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"}

    def reached(wanted: int | str) -> bool:
        state = run / "state.json"
        if isinstance(wanted, int):
            return state.is_file() and len(json.loads(state.read_text())["events"]) >= wanted
        return any(run.glob(wanted))

    # In the first evaluation; after an update; with a batch half there; as stage 2 trains; between it and the gate's end.
    for wanted in ("practice/toy-?-000001.*", 4, "practice/toy-?-000006.*", "supervised/*/progress.json", "evaluations/*gate*"):
        log = (tmp_path / "log.txt").open("ab")
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            if reached(wanted):
                os.kill(process.pid, signal.SIGKILL)  # alone: its children must end by themselves
                kills += 1
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.005)
        process.wait(timeout=60)
        assert process.returncode == -signal.SIGKILL, (wanted, (tmp_path / "log.txt").read_text())
    assert kills == 5
    subprocess.run(command, check=True, timeout=600, capture_output=True, env=environment)
    assert results(run) == results(whole[0])
    assert json.loads((run / "summary.json").read_text())["complete"] is True
