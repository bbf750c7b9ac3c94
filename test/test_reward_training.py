"""The success classifier: labels, thresholds and rates by hand, a toy that it must learn, and the commands on real files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from irevla_ros.cli.main import main
from irevla_ros.core.errors import CheckpointError, ConfigError, DataError
from irevla_ros.core.types import Mode, Observation, Outcome
from irevla_ros.data.spool import Spool
from irevla_ros.jobs.graph_config import shipped_policy
from irevla_ros.jobs.reward_data import FrameLabels, LabelledEpisode, read_labelled
from irevla_ros.jobs.reward_eval import Score, lasting, probabilities, rates, score, score_all, table
from irevla_ros.jobs.reward_training import RewardTraining, calibrate, choose_threshold, exceeded, shortages, train_heads
from irevla_ros.policy.checkpoint import load_vla
from irevla_ros.rewards.classifier import FILE, ClassifierReward
from irevla_ros.rewards.detector import Debounce
from irevla_ros.rewards.success_head import load_success_heads, save_success_heads
from spool_toys import toy_episode

SEEN = Observation({}, np.zeros(6, np.float32), "move it")
QUICK = RewardTraining(labels=FrameLabels(0, 3, 1), hold=2, folds=2, repeats=1, steps=120, batch=32)


def test_a_success_shows_a_reaction_time_before_the_key_and_what_surrounds_that_is_unsure() -> None:
    labels = FrameLabels(reaction=2, shown=2, unsure=1)
    assert labels.of(8, True).tolist() == [0, 0, 0, -1, 1, 1, -1, -1]
    assert labels.of(8, False).tolist() == [0] * 8
    assert labels.of(3, True).tolist() == [1, -1, -1]  # shorter than all three: nothing is called a failure
    assert labels.of(2, True).tolist() == [-1, -1]
    assert labels.early(8, True).tolist() == [True] * 3 + [False] * 5
    assert FrameLabels(reaction=0, shown=2, unsure=3).of(6, True).tolist() == [0, -1, -1, -1, 1, 1]
    with pytest.raises(ConfigError, match="reaction = -1, shown = 2, unsure = 2"):
        FrameLabels(-1, 2, 2)


def test_a_probability_counts_when_it_lasts() -> None:
    seen = np.array([0.9, 0.2, 0.7, 0.8, 0.6, 0.1], np.float32)
    assert [round(lasting(seen, hold), 3) for hold in (1, 2, 3, 4, 7)] == [0.9, 0.7, 0.6, 0.2, 0.0]


class Says:
    def __init__(self, values: list[float]) -> None:
        self._values = iter(values)

    def begin(self, task: str) -> None:
        pass

    def __call__(self, observation: Observation, info: object) -> float:
        return next(self._values)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12), st.integers(1, 4), st.floats(0.0078125, 1, width=32))
def test_an_episode_is_scored_as_the_reward_node_judges_it(values: list[float], hold: int, threshold: float) -> None:
    detector = Debounce(ClassifierReward(Says(values), {"t": threshold}), hold)
    detector.reset("t")
    fired = any(detector.observe(SEEN, {}).sure for _ in values)
    assert fired == (lasting(np.array(values, np.float32), hold) >= threshold)


def probability(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def test_one_bad_failure_does_not_set_the_threshold() -> None:
    """Logits of mean 6/21, s = 1.647; t of 0.98 for 20 degrees is 2.197: the bound is 0.286 + 2.197 * 1.647 * sqrt(22/21)."""
    failures = [probability(logit) for logit in [-1, 1] * 10 + [6]]
    between = probability((3.990 + 5) / 2)
    assert choose_threshold([probability(logit) for logit in (7, 5, 1)], failures, 0.02) == pytest.approx(between, rel=1e-4)
    assert choose_threshold([probability(3)], failures, 0.02) == 1.0  # none can be told from the failures: none is believed
    assert choose_threshold([0.999], [*failures, 0.0], 0.02) == choose_threshold([0.999], failures, 0.02)
    assert choose_threshold([0.9], [0.1, 0.0], 0.02) == 1.0  # one failure shows no spread


def test_the_threshold_lies_in_the_gap_where_there_is_one() -> None:
    """Student's bound of these is 5.2, beyond the successes."""
    failures = [probability(logit) for logit in (-2, -1, 0, 1, 2)]
    assert choose_threshold([probability(3), probability(4)], failures, 0.02) == pytest.approx(probability(2.5))


def test_two_of_a_hundred_new_failures_exceed_what_twenty_set() -> None:
    """Where the greatest of the twenty would let 5 of a hundred pass."""
    rng, normal = np.random.default_rng(0), NormalDist()
    sets = rng.normal(0, 1, (2000, 20))
    assert np.mean([1 - normal.cdf(exceeded(values.tolist(), 0.02)) for values in sets]) == pytest.approx(0.02, abs=0.002)
    assert np.mean([1 - normal.cdf(values.max()) for values in sets]) == pytest.approx(1 / 21, abs=0.004)


def test_overconfident_logits_are_cooled() -> None:
    """Right in three of four, said with a logit of 4.394 = 4 ln 3: a temperature of 4 makes that 0.75."""
    logits = torch.full((400,), 4 * math.log(3.0))
    labels = (torch.arange(400) % 4 != 0).float()
    assert calibrate(logits, labels, torch.full((400,), 1 / 400)) == pytest.approx(4.0, rel=0.03)


def test_rates_and_what_they_cannot_show() -> None:
    scores = [Score("a", True, 0.9, 0.1), Score("a", True, 0.9, 0.8), Score("a", True, 0.4, 0.1), Score("a", False, 0.8, 0.8),
              Score("a", False, 0.2, 0.2), Score("other", True, 1.0, 0.0)]  # fmt: skip
    (found,) = rates(scores, {"a": 0.5, "unseen": 0.5})
    four = (found.false_positives, found.too_early, found.recall, found.precision)
    assert [(one.successes, one.episodes) for one in four] == [(1, 2), (1, 3), (2, 3), (2, 3)]
    # Wilson of 1 in 2 and of 2 in 3.
    assert "| a | 0.500 | 50.0 % [9.5, 90.5] n=2 | 33.3 % [6.1, 79.2] n=3 | 66.7 % [20.8, 93.9] n=3 |" in table([found])
    said = shortages([found], 0.02)
    assert said[:2] == ["a: 3 successes; collect at least 20", "a: 2 failures; collect at least 20"]
    assert said[-1].startswith("a: 2 failures show no false-positive rate below 66 %")
    assert not shortages(rates([Score("a", k < 20, 0.9, 0.1) for k in range(220)], {"a": 0.5}), 0.02)


def moved(number: int, success: bool, task: str = "move", heights: Sequence[float] = ()) -> LabelledEpisode:
    """A height that starts anywhere; success is 2 more for 4 observations, failure 1. The height alone does not tell: it is the
    change since the first observation."""
    rng = np.random.default_rng(number)
    seen = rng.uniform(-2, 2) + np.array(heights or [0.0] * 3 + [1.0] * 4 + [2.0 if success else 1.0] * 4)
    latents = rng.normal(0, 0.1, (len(seen), 8, 16))
    latents[:, :, 0] += seen[:, None]
    return LabelledEpisode(f"e{number}", task, success, latents.astype(np.float16), np.zeros((len(seen), 6), np.float32))


@pytest.fixture(scope="module")
def learned():  # type: ignore[no-untyped-def]
    torch.set_num_threads(1)
    return train_heads([moved(k, k % 2 == 0) for k in range(40)], QUICK, "abcdef0123456789", "shipped")


def test_a_change_is_learned_from_forty_episodes_and_told_on_new_ones(learned) -> None:  # type: ignore[no-untyped-def]
    heads, unseen = learned
    assert len(unseen) == 40 and all(len(seen) == 11 for _, seen in unseen)
    (found,) = rates(score_all(heads, (moved(1000 + k, k % 2 == 0) for k in range(60)), QUICK.labels), heads.spec.thresholds)
    assert found.false_positives.episodes == 30 and found.false_positives.mean <= 0.1
    assert found.recall.mean >= 0.9 and found.too_early.mean <= 0.1
    held_out = rates([score(one, seen, QUICK.labels, 2) for one, seen in unseen], heads.spec.thresholds)[0]
    assert held_out.recall.mean >= 0.8


def test_the_stream_gives_what_whole_episodes_give(learned) -> None:  # type: ignore[no-untyped-def]
    heads, episode = learned[0], moved(7, True)
    wanted = probabilities(heads, episode)
    detector = heads.detector()
    for _ in range(2):  # an episode begins anew
        detector.reset("move")
        found = [detector.observe(replace(SEEN, proprio=episode.proprio[row]), {"latents": episode.latents[row]}).progress
                 for row in range(len(wanted))]  # fmt: skip
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    detector.reset("another task")
    assert detector.observe(SEEN, {"latents": episode.latents[0]}).sure is None and detector.inner.unusable == 1


def test_a_file_is_read_again_and_refused_for_another_backbone(tmp_path: Path, learned) -> None:  # type: ignore[no-untyped-def]
    heads, episode = learned[0], moved(3, True)
    save_success_heads(tmp_path / FILE, heads)
    again = load_success_heads(tmp_path / FILE, "abcdef0123456789")
    assert again.spec == heads.spec
    np.testing.assert_array_equal(probabilities(again, episode), probabilities(heads, episode))
    with pytest.raises(CheckpointError, match="is of backbone abcdef012345: latents of backbone 999 mean nothing to it"):
        load_success_heads(tmp_path / FILE, "999")
    with pytest.raises(CheckpointError, match="it is no success classifier"):
        load_success_heads(shipped_policy() / "head.safetensors")


def test_training_on_one_kind_is_refused() -> None:
    with pytest.raises(DataError, match="task move: 3 successes and 1 failures: at least 2 of each are required"):
        train_heads([moved(k, k > 0) for k in range(4)], QUICK, "f", "c")
    with pytest.raises(ConfigError, match="hold = 3 with shown = 2"):
        RewardTraining(labels=FrameLabels(4, 2, 1), hold=3)
    with pytest.raises(ConfigError, match="repeats = 0"):
        RewardTraining(repeats=0)


def test_a_success_that_springs_back_before_the_key_is_learned() -> None:
    """Like a button: three observations show it, and the four until the key look like a failure again."""

    def sprung(number: int, success: bool) -> LabelledEpisode:
        return moved(number, success, heights=[0.0] * 3 + [1.0] * 4 + [2.0 if success else 1.0] * 3 + [1.0] * 4)

    def recall(labels: FrameLabels) -> float:
        config = replace(QUICK, labels=labels)
        heads, _ = train_heads([sprung(k, k % 2 == 0) for k in range(40)], config, "f", "c")
        (found,) = rates(score_all(heads, (sprung(1000 + k, k % 2 == 0) for k in range(40)), labels), heads.spec.thresholds)
        assert found.false_positives.mean <= 0.1
        return found.recall.mean

    assert recall(FrameLabels(4, 3, 0)) >= 0.9
    assert recall(FrameLabels(0, 4, 0)) <= 0.2


def test_an_episode_is_judged_by_the_mean_of_the_heads_that_had_not_seen_it() -> None:
    heads, unseen = train_heads([moved(k, k % 2 == 0) for k in range(8)], replace(QUICK, repeats=2, steps=5), "f", "c")
    assert len(heads.nets) == heads.spec.heads == 4  # two divisions in halves
    for episode, said in unseen:
        inputs, _ = heads.inputs(torch.from_numpy(episode.latents), torch.from_numpy(episode.proprio), "move")
        logits = [net(*inputs) / heads.spec.temperature for net in heads.nets]
        means = [torch.sigmoid((logits[one] + logits[other]) / 2).numpy() for one in (0, 1) for other in (2, 3)]
        assert min(np.abs(mean - said).max() for mean in means) < 1e-5


def lights(spool: Spool, task: str, count: int, mode: Mode = Mode.TRAIN) -> None:
    """Success is a white picture at the end."""
    for number in range(count):
        success = number % 2 == 0
        episode = toy_episode(f"{task}-{mode.value}-{number}", 9, number, cameras={"front": (64, 64)}, task=task, mode=mode,
                              outcome=Outcome.SUCCESS if success else Outcome.FAILURE)  # fmt: skip
        frames = np.repeat(np.where(np.arange(10) >= 5, 255, 0) if success else np.zeros(10), 64 * 64 * 3)
        spool.write_episode(replace(episode, images={"front": frames.reshape(10, 64, 64, 3).astype(np.uint8)},
                                    proprio=np.zeros((10, 6), np.float32)), durable=False)  # fmt: skip
    spool.commit()


def test_the_commands_train_and_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spool, out = Spool(tmp_path / "spool"), tmp_path / "reward"
    lights(spool, "press-red", 8)
    lights(spool, "press-red", 4, Mode.EVAL)
    spool.label("press-red-train-6", None, "ada", discard=True)
    spool.label("press-red-train-7", Outcome.UNKNOWN, "ada")
    labels = ["--reaction", "0", "--shown", "3", "--unsure", "1"]
    assert main(["reward", "train", str(spool.root), "--out", str(out), "--hold", "2", "--repeats", "1", *labels]) == 0
    said = capsys.readouterr().out
    assert "Warning: press-red: 3 successes; collect at least 20." in said and "n=3" in said
    assert (out / "training.md").read_text().strip() in said
    fingerprint = load_vla(shipped_policy())[0].backbone.fingerprint()
    assert load_success_heads(out / FILE, fingerprint).spec.checkpoint == "shipped"

    assert main(["reward", "eval", str(spool.root), "--classifier", str(out), *labels]) == 0
    text = (out / "eval.md").read_text()
    assert "| press-red |" in text and "n=5" in text  # evaluations count here: 3 + 2 failures and successes
    assert main(["reward", "eval", str(spool.root), "--classifier", str(out), "--task", "press-blue"]) == 2
    assert "no judged episode of press-blue" in capsys.readouterr().err
    with pytest.raises(DataError, match="no judged episode"):
        list(read_labelled([Spool(tmp_path / "empty").root], load_vla(shipped_policy())[0]))
