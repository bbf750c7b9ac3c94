"""What a human's steps, demonstrations and late verdicts do to the learner's memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from irevla_ros.core.types import ControlSource, Episode, Mode, Outcome
from irevla_ros.data.reader import SpoolReader
from irevla_ros.jobs.config import RunConfig
from irevla_ros.jobs.graph_setup import open_learner
from irevla_ros.jobs.stage1 import Stage1
from irevla_ros.learn.interventions import human_segments, with_takeover_penalty
from irevla_ros.learn.irevla import StartTask, UpdateDone
from irevla_ros.learn.replay import DemoReplay, ReplayBuffer
from irevla_ros.learn.sacfd import SACfD, SACfDConfig
from irevla_ros.policy.gaussian import GaussianActor
from irevla_ros.policy.head import ActionHead, TwinQ
from learn_toys import ACTION, LATENT_SHAPE, PROPRIO, SMALL, make_episode
from learner_toys import STEPS, TASK, ToyArm, demonstrations, drive, fresh_policy, settings
from spool_toys import toy_episode

P, H = ControlSource.POLICY, ControlSource.HUMAN


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fresh_policy(tmp_path_factory.mktemp("vla") / "fresh")


def shared(sources: Sequence[ControlSource], end: str = "truncated") -> Episode:
    return make_episode(len(sources), end, source=np.array(sources, np.uint8))


@pytest.mark.parametrize(("sources", "segments"), [
    ([P, P, H, H, P, H], [(2, 4), (5, 6)]), ([H, H], [(0, 2)]), ([P, P], []), ([H, P, ControlSource.SCRIPT], [(0, 1)]),
])  # fmt: skip
def test_the_steps_of_a_human_are_found(sources: list[ControlSource], segments: list[tuple[int, int]]) -> None:
    assert human_segments(shared(sources)) == segments


def test_a_takeover_costs_the_step_before_it_and_ends_nothing() -> None:
    episode = shared([P, P, H, H, P, H], "terminated")
    found = with_takeover_penalty(episode, 0.5)
    assert found.reward.tolist() == [0.0, -0.5, 0.0, 0.0, -0.5, 1.0]
    assert found.terminated.tolist() == [False] * 5 + [True] and not found.truncated.any()
    assert episode.reward.tolist() == [0.0] * 5 + [1.0]
    assert with_takeover_penalty(shared([H, P, P]), 0.5).reward.tolist() == [0.0] * 3  # the human gave it back
    assert with_takeover_penalty(episode, 0.0) is episode


@pytest.mark.parametrize(("end", "demonstrated"), [("truncated", 3), ("terminated", 6)])
def test_corrections_are_demonstrations_and_experience(sft: Path, end: str, demonstrated: int) -> None:
    """Of a failure the three steps of the human; of a success all six, once."""
    config = RunConfig(sacfd=SACfDConfig(takeover_penalty=0.25))
    stage = Stage1(StartTask("reach", "", "sacfd", "head", 1, 0), sft, config, [])
    episode = shared([P, P, H, H, P, H], end)
    stage.remember([episode])
    assert (len(stage.replay.demo), len(stage.replay.online)) == (demonstrated, 6)
    assert stage.replay.online._columns["reward"][:5].tolist() == [0.0, -0.25, 0.0, 0.0, -0.25]
    demo = stage.replay.demo._columns
    first = 2 if end == "truncated" else 0
    np.testing.assert_array_equal(demo["action"][0], episode.executed[first])
    np.testing.assert_array_equal(demo["latents"][: demonstrated - 1][0], episode.latents[first])  # type: ignore[index]
    stage.forget()
    assert (len(stage.replay.demo), len(stage.replay.online)) == (0, 0)


def test_values_before_a_takeover_by_hand() -> None:
    """A -> B -> C -> end without reward; the human takes over in C. Penalty 0.5, gamma 0.5: Q(C) = 0, Q(B) = -0.5 + 0,
    Q(A) = 0.5 * -0.5."""
    latents = np.zeros((4, *LATENT_SHAPE), np.float16)
    latents[range(4), 0, range(4)] = 3.0
    columns = {"latents": latents, "proprio": np.zeros((4, PROPRIO), np.float32), "executed": np.zeros((3, ACTION), np.float32),
               "source": np.array([P, P, H], np.uint8), "reward": np.zeros(3, np.float32)}  # fmt: skip
    episode = with_takeover_penalty(make_episode(3, "terminated", **columns), 0.5)
    torch.manual_seed(0)
    actor = GaussianActor(ActionHead(LATENT_SHAPE[1], PROPRIO, ACTION, config=SMALL))
    with torch.no_grad():
        actor.head.out.weight.fill_(0.0)
        actor.log_std.fill_(float(np.log(0.05)))
    config = SACfDConfig(batch=32, critic_warmup=500, gamma=0.5, tau=0.1, learn_std=False, takeover_penalty=0.5)
    sacfd = SACfD(actor, TwinQ(LATENT_SHAPE[1], PROPRIO, ACTION, config=SMALL), config, torch.Generator().manual_seed(0))
    replay = DemoReplay(ReplayBuffer(10), ReplayBuffer(10))
    replay.online.add(episode)
    sacfd.update(replay, 500)
    with torch.no_grad():
        values = sacfd.critics(torch.from_numpy(latents[:3]).float(), torch.zeros(3, PROPRIO), torch.zeros(3, 1, ACTION))
    torch.testing.assert_close(values, torch.tensor([[-0.25, -0.5, 0.0]] * 2), atol=0.05, rtol=0)


def updated(times: int, run: Path, sft: Path):  # type: ignore[no-untyped-def]
    """A learner that has updated its head so often, as it stands then."""
    demonstrations(run)
    learner = open_learner(settings(run, sft))
    arms = {name: ToyArm(name, run) for name in ("a", "b")}

    def count() -> int:
        return sum(isinstance(event, UpdateDone) for event in learner.machine.state.events)

    drive(learner, arms, until=lambda: count() >= times)
    return learner, arms, count


def names_by_seed(run: Path) -> dict[int, str]:
    return {record.meta.seed: record.episode_id for record in SpoolReader(run / "practice").episodes(mode=Mode.TRAIN)}


def test_late_labels_and_demonstrations_are_learned_from_at_the_next_update(tmp_path: Path, sft: Path) -> None:
    """Episodes of 3 steps, of which those with an even seed succeed: 4 of the zero-shot policy, then 4 and 4 of practice."""
    run = tmp_path / "run"
    learner, arms, count = updated(1, run, sft)
    replay = learner._training.stage1.replay
    assert (len(replay.demo), len(replay.online)) == (4 * STEPS, 6 * STEPS)

    spool, names = learner.record.practice, names_by_seed(run)
    spool.label(names[200_000], Outcome.FAILURE, "ada")  # the zero-shot policy's: was a demonstration
    spool.label(names[200_005], Outcome.SUCCESS, "ada")
    spool.label(names[200_006], None, "ada", discard=True)
    human = toy_episode("by-hand", 5, cameras={"front": (64, 64)}, task=TASK, mode=Mode.DEMO, run_id="collect")
    human = replace(human, source=np.full(5, H, np.uint8), reward=(np.arange(5) == 4).astype(np.float32))
    spool.write_episode(human)
    for name, change in (("failed", {"outcome": Outcome.FAILURE}), ("other-task", {"task": "press-orange"})):
        spool.write_episode(replace(human, meta=replace(human.meta, episode_id=name, **change)))
    script = np.full(5, ControlSource.SCRIPT, np.uint8)
    scripted = replace(human, meta=replace(human.meta, episode_id="scripted"), source=script)
    spool.write_episode(scripted)

    drive(learner, arms, until=lambda: count() >= 2)
    replay = learner._training.stage1.replay
    # demo: by hand 5 steps; zero-shot 2; practice 4, 5, 8, 10. online: zero-shot 0, 1, 3; practice all but 6.
    assert (len(replay.demo), len(replay.online)) == (5 + 5 * STEPS, 10 * STEPS)
    assert replay.demo._columns["reward"][: 6 + STEPS + 1][replay.demo._is_step[: 6 + STEPS + 1]].tolist() == [
        0, 0, 0, 0, 1, 0, 0, 1]  # fmt: skip
    relabelled = replay.online._columns["terminated"][replay.online._is_step].reshape(-1, STEPS)[4]  # 0, 1, 3, 4, then 5
    assert relabelled.tolist() == [False, False, True]
    assert "judged anew, discarded or added by a person: 4" in (run / "log.txt").read_text()

    learner.close()
    learner.record.close()
    again = open_learner(settings(run, sft))
    drive(again, arms, until=lambda: again._training._stage1 is not None)
    other = again._training.stage1.replay
    for mine, its in ((replay.demo, other.demo), (replay.online, other.online)):
        assert torch.equal(mine._is_step, its._is_step)
        for column, values in mine._columns.items():
            rows = mine._is_step if column in ("action", "reward", "terminated") else slice(None)
            assert torch.equal(values[rows], its._columns[column][rows]), column
    again.close()
    again.record.close()
