from __future__ import annotations

import os

import pytest
from hypothesis import settings

# A busy machine is not a failure; in CI the examples are the same on every run.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# First of all, so that no worker is left with one of these while the others have finished.
LONGEST = ("test_train", "test_graph_learning", "test_supervised_job", "test_node_recorder", "test_interrupt",
           "test_reward_training", "test_node_learner", "test_rollouts", "test_collect_session")  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))
