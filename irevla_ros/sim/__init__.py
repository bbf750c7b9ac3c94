"""A Franka Panda on a table in PyBullet: world, cameras, tasks, scripted experts and the Gymnasium environment."""

from __future__ import annotations


def register_environments() -> None:
    """Register ``irevla/Panda-v0`` and one id per task of the shipped suites (such as ``irevla/press-red-v0``).

    Also the entry point that Gymnasium calls for the module ``irevla_ros.sim`` in an id such as
    ``gymnasium.make("irevla_ros.sim:irevla/Panda-v0")``.
    """
    import gymnasium

    from irevla_ros.sim.suite import load_suite, suite_names

    entry_point, vector = "irevla_ros.sim.env:PandaEnv", "irevla_ros.sim.vector:PandaVectorEnv"
    if "irevla/Panda-v0" in gymnasium.registry:
        return
    gymnasium.register("irevla/Panda-v0", entry_point, vector_entry_point=vector)
    for suite in suite_names():
        for task in load_suite(suite).tasks:
            identifier = f"irevla/{task.name.replace('@', '-at-')}-v0"
            if identifier not in gymnasium.registry:
                fixed = {"suite": suite, "task": task.name}
                gymnasium.register(identifier, entry_point, kwargs=fixed, vector_entry_point=vector)


register_environments()
