"""Evaluation: start states that depend on the suite alone, equal shares, and rates with n and intervals."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from irevla_ros.cli.main import main
from irevla_ros.core.stats import Rate
from irevla_ros.core.types import CATEGORIES
from irevla_ros.jobs.config import RunConfig
from irevla_ros.jobs.evaluate import evaluation_requests, recorded
from irevla_ros.jobs.gate import GATE_SEED
from irevla_ros.jobs.rollouts import PolicySnapshot, SceneConfig, run_episodes
from irevla_ros.jobs.train import Trainer
from irevla_ros.jobs.workers import WorkerPool
from irevla_ros.policy.backbone import build_backbone
from irevla_ros.policy.checkpoint import save_vla
from irevla_ros.policy.vla import build_vla
from irevla_ros.sim.suite import load_suite

SUITE = """expert: [{family: press, colour: red}, {family: press, colour: green}]
rl: [{family: press, colour: yellow}]
unseen: [{family: press, colour: purple}]
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("suite") / "press.yaml"
    path.write_text(SUITE)
    return str(path)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two policies that differ in every weight, as two training seeds would leave them."""
    folders = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        folders.append(tmp_path_factory.mktemp("policies") / f"seed{seed}")
        save_vla(folders[-1], build_vla(build_backbone("tiny")), {"seed": seed})
    return folders


@pytest.mark.parametrize("per_category", [1, 10, 300])
def test_every_task_of_a_category_has_the_same_share_and_the_same_seeds(per_category: int) -> None:
    suite = load_suite("demo")
    requests = evaluation_requests("demo", per_category)
    assert len({(r.task, r.seed) for r in requests}) == len({r.episode_id for r in requests}) == len(requests)
    for category in CATEGORIES:
        names = [task.name for task in getattr(suite, category)]
        share = -(-per_category // len(names))  # rounded up
        shares = Counter(r.task for r in requests if r.task in names)
        assert shares == dict.fromkeys(names, share)
        assert len(names) * share >= per_category
    seeds = {task.name: [r.seed for r in requests if r.task == task.name] for task in suite.tasks}
    for task in suite.expert:
        assert seeds[task.name] == seeds[suite.expert[0].name]


@pytest.mark.parametrize("seed", [0, 1, 8, 9, 10, 50])
def test_practice_never_meets_a_start_state_of_evaluation(seed: int, suite: str, tmp_path: Path) -> None:
    config = RunConfig(seed=seed, scene=SceneConfig(suite))
    with WorkerPool(0) as pool, closing(Trainer(tmp_path / "run", config, pool, quiet=True)) as trainer:
        practised = {trainer.record.practice_seed(number) for number in range(20_000)}
    assert len(practised) == 20_000
    evaluated = {r.seed for r in evaluation_requests(suite, 20_000)}
    gate = set(range(GATE_SEED, GATE_SEED + 20_000))
    assert practised.isdisjoint(evaluated) and practised.isdisjoint(gate) and evaluated.isdisjoint(gate)


def test_start_states_do_not_depend_on_the_policy(suite: str, checkpoints: list[Path]) -> None:
    requests = recorded(evaluation_requests(suite, 2), 1)
    with WorkerPool(1) as pool:
        first, second = (
            run_episodes(pool, SceneConfig(suite), requests, PolicySnapshot(str(folder)), batch=4) for folder in checkpoints
        )
    moved = []
    for one, other in zip(first, second, strict=True):
        assert one.episode is not None
        assert other.episode is not None
        assert one.request == other.request
        np.testing.assert_array_equal(one.episode.images["front"][0], other.episode.images["front"][0])
        np.testing.assert_array_equal(one.episode.proprio[0], other.episode.proprio[0])
        moved.append(not np.array_equal(one.episode.executed[0], other.episode.executed[0]))
    assert all(moved), "the two policies are one"


def test_irevla_eval_prints_rates_with_n_and_interval(
    suite: str, checkpoints: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(checkpoints[0]), "--suite", suite, "--episodes", "3", "--workers", "1"]) == 0
    said = capsys.readouterr()
    rows = [line.split(maxsplit=1) for line in said.out.splitlines()]
    assert [(name, int(rate.rpartition("n=")[2])) for name, rate in rows] == [
        ("expert", 4), ("press-red", 2), ("press-green", 2),
        ("rl", 3), ("press-yellow", 3),
        ("unseen", 3), ("press-purple", 3),
    ]  # fmt: skip
    for _, rate in rows:
        found = re.fullmatch(r"([01]\.\d\d) \[[01]\.\d\d, [01]\.\d\d\] n=(\d+)", rate.strip())
        assert found is not None, rate
        n = int(found[2])
        assert rate.strip() == str(Rate(round(float(found[1]) * n), n))
    assert "evaluating seed1  10/10" in said.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--episodes", "0"], "both are at least 1"),
        (["--std", "-1"], "--std -1.0: it is positive"),
        (["--suite", "dmo"], "did you mean 'demo'?"),
    ],
)
def test_wrong_arguments_are_one_line(
    checkpoints: list[Path], capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["eval", str(checkpoints[0]), *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
