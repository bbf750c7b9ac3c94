from __future__ import annotations

import inspect
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import irevla_ros.sim
from irevla_ros.core.errors import ConfigError, SimulationError
from irevla_ros.jobs.workers import WorkerPool
from irevla_ros.sim.env import PandaEnv
from irevla_ros.sim.suite import load_suite
from irevla_ros.sim.vector import PandaVectorEnv
from irevla_ros.sim.world import WORKSPACE_HIGH, WORKSPACE_LOW
from sim_toys import STILL, SUITE, TASKS, digest, digests_in_worker, finish, new_env, play

DEMO = load_suite("demo")


@pytest.fixture(scope="module")
def env():
    env = new_env()
    yield env
    env.close()


@pytest.mark.parametrize("name", ["irevla/Panda-v0", f"irevla/{DEMO.expert[0].name}-v0"])
def test_gymnasiums_checker_passes_without_a_warning(name):
    env = gymnasium.make(name, image_size=32, render_mode="rgb_array", disable_env_checker=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    env.close()


def test_each_task_of_the_shipped_suites_has_an_id():
    irevla_ros.sim.register_environments()  # twice does no harm
    for task in DEMO.tasks:
        assert f"irevla/{task.name.replace('@', '-at-')}-v0" in gymnasium.registry


def test_a_registered_task_is_the_one_that_is_played():
    task = DEMO.rl[0]
    env = gymnasium.make(f"irevla/{task.name}-v0", image_size=16)
    observed, info = env.reset(seed=0)
    assert observed["instruction"] == task.instruction
    assert info == {"task": task.name, "success": False, "failure": False}
    env.close()


def test_observations_have_the_promised_shapes():
    env = new_env(cameras=("wrist", "front"), image_size=24, render_mode="rgb_array")
    observed, _ = env.reset(seed=1)
    assert list(observed) == ["wrist", "front", "proprio", "instruction"]
    assert observed["wrist"].shape == observed["front"].shape == (24, 24, 3)
    assert (observed["wrist"] != observed["front"]).any()
    assert env.observation_space.contains(observed)
    assert env.render().shape == (256, 256, 3)
    env.close()


def test_a_vector_of_processes_with_shared_memory_sees_what_one_environment_sees(env):
    vector = gymnasium.make_vec("irevla/Panda-v0", num_envs=2, suite=SUITE, image_size=16)
    assert isinstance(vector, PandaVectorEnv) and vector.shared_memory
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (3, 2, 5)).astype(np.float32)
    seen, words = [], set()
    for task in TASKS[::3]:
        seen.append(vector.reset(seed=[5, 6], options={"task": task})[0])
        seen += [vector.step(action)[0] for action in actions]
        assert vector.observation_space.contains(seen[-1])
    vector.close()
    for rank, seed in enumerate((5, 6)):
        alone = []
        for task in TASKS[::3]:
            alone.append(env.reset(seed=seed, options={"task": task})[0])
            alone += [env.step(action[rank])[0] for action in actions]
        for one, many in zip(alone, seen, strict=True):
            np.testing.assert_array_equal(one["front"], many["front"][rank])
            np.testing.assert_array_equal(one["proprio"], many["proprio"][rank])
            assert one["instruction"] == many["instruction"][rank]
            words.add(one["instruction"])
    assert words == {"press the red button", "open the drawer"}


def test_equal_seeds_give_bit_equal_episodes_whatever_ran_before_and_in_any_process(env):
    first = [digest(env, task, 11) for task in TASKS]
    assert len(set(first)) == len(TASKS)
    for task, expected in zip(TASKS, first, strict=True):
        for other in TASKS[::2]:
            env.reset(seed=3, options={"task": other})
            env.step(STILL)
        assert digest(env, task, 11) == expected, task
    assert digest(env, TASKS[0], 12) != first[0]
    with WorkerPool(1) as pool:
        assert pool.run(digests_in_worker, [{"seed": 11}]) == [first]


def jostled(env, task, seed):
    """Proprioception of an episode of wild actions: the arm pushes into table, buttons and cubes."""
    rows = [env.reset(seed=seed, options={"task": task})[0]["proprio"]]
    rng = np.random.default_rng(seed)
    for _ in range(25):
        action = np.clip(rng.normal(0, 0.7, 5) + [0, 0, -0.3, 0, 0], -1, 1).astype(np.float32)
        observed, _, terminated, truncated, _ = env.step(action)
        rows.append(observed["proprio"])
        if terminated or truncated:
            break
    return np.array(rows)


WILD = [("press-green", 6), ("press-green", 66), ("press-blue", 67), ("push-red-cube-left", 8)]


@pytest.mark.parametrize(("task", "seed"), WILD)
def test_contacts_do_not_depend_on_earlier_episodes(task, seed):
    # These differed, from some contact on, when bodies were removed in another order, or in PyBullet's default broadphase.
    fresh = PandaEnv("demo", image_size=8)
    expected = jostled(fresh, task, seed)
    fresh.close()
    for before in ([], ["press-red"], ["push-red-cube-left"], ["press-red", "push-green-cube-left", "press-blue"]):
        used = PandaEnv("demo", image_size=8)
        for number, other in enumerate(before):
            jostled(used, other, number)
        np.testing.assert_array_equal(jostled(used, task, seed), expected, err_msg=f"after {before}")
        used.close()


def test_a_client_that_is_renewed_shows_the_same_episodes():
    # PyBullet never frees the shapes of removed bodies; a new client does, and nobody may notice.
    env = PandaEnv(SUITE, image_size=8)
    first = [digest(env, task, 11) for task in TASKS[:2]]
    env.world.RENEW_AFTER = 3
    client = env.world.p
    again = [digest(env, task, 11) for task in TASKS[:2]]
    assert again == first and env.world.p is not client
    env.close()


def test_seeds_are_given_in_reset_only(env):
    assert "seed" not in inspect.signature(PandaEnv).parameters
    runs = []
    for _ in range(2):
        env.reset(seed=7)
        runs.append([env.reset()[0] for _ in range(3)])  # goes on with the generator of the seed
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one["front"], other["front"])
    assert (runs[0][0]["proprio"] != runs[0][1]["proprio"]).any()


@pytest.mark.parametrize("task", TASKS)
def test_experts_solve_their_tasks(env, task):
    successes = 0
    for seed in range(12):
        *_, (_, reward, terminated, truncated, info) = play(env, task, seed)
        assert reward == float(info["success"]) and terminated == (info["success"] or info["failure"])
        assert terminated != truncated
        successes += info["success"]
    assert successes >= 11


def test_experts_vary(env):
    lengths = {len(list(play(env, "pick-blue-block", seed))) for seed in range(8)}
    assert len(lengths) > 2


@pytest.mark.parametrize("task", TASKS)
def test_random_actions_do_not_succeed(env, task):
    rewards = [step[1] for seed in range(4) for step in play(env, task, seed, expert=False)]
    assert sum(rewards) == 0.0


def lift(env, height):
    env.world.p.resetBasePositionAndOrientation(env.task.target.body, [0.5, 0.0, height], [0, 0, 0, 1])


def test_success_must_be_held(env):
    env.reset(seed=0, options={"task": "pick-blue-block"})
    lift(env, 0.20)  # it falls 5 cm in the first tick and 20 cm in the second
    seen = []
    for _ in range(4):
        _, reward, terminated, _, _ = env.step(STILL)
        seen.append((reward, terminated))
    assert seen == [(0.0, False)] * 4
    for tick in range(env.task.hold):
        lift(env, 0.20)
        _, reward, terminated, truncated, info = env.step(STILL)
        assert (reward, terminated, info["success"]) == ((1.0, True, True) if tick == 2 else (0.0, False, False))
        assert not truncated


def play_with_a_distractor(env, task, seed):
    """The expert mistakes the first distractor for the target."""
    env.reset(seed=seed, options={"task": task})
    meant, taken = env.task.target, env.task.others[0]
    env.task.target = taken
    script = env.expert()
    env.task.target = meant
    return list(finish(env, script))


def test_the_wrong_button_fails_the_episode_without_reward(env):
    steps = play_with_a_distractor(env, "press-red", 2)
    _, _, terminated, truncated, info = steps[-1]
    assert terminated and not truncated
    assert info == {"task": "press-red", "success": False, "failure": True}
    assert sum(step[1] for step in steps) == 0.0


def test_lifting_a_distractor_does_not_count(env):
    steps = play_with_a_distractor(env, "pick-blue-block", 2)
    assert env.world.position(env.task.others[0].body)[2] > 0.08  # it hangs in the gripper
    _, reward, terminated, truncated, info = steps[-1]
    assert (reward, terminated, truncated, info["success"], info["failure"]) == (0.0, False, True, False, False)


def test_opening_the_other_fixture_fails(env):
    env.reset(seed=0, options={"task": "open-drawer"})
    env.world.p.resetJointState(env.task.other.body, 0, 0.6 * env.task.other.travel)
    _, reward, terminated, _, info = env.step(STILL)
    assert (reward, terminated, info["failure"]) == (0.0, True, True)


def test_an_object_off_the_table_fails(env):
    env.reset(seed=0, options={"task": "push-green-cylinder-left"})
    env.world.p.resetBasePositionAndOrientation(env.task.target.body, [0.5, 1.0, -0.1], [0, 0, 0, 1])
    _, reward, terminated, _, info = env.step(STILL)
    assert (reward, terminated, info["failure"]) == (0.0, True, True)


@pytest.mark.parametrize("task", TASKS)
def test_the_time_limit_truncates(env, task):
    env.reset(seed=1, options={"task": task})
    limit = env.task.time_limit
    for step in range(1, limit + 1):
        _, reward, terminated, truncated, info = env.step(STILL)
        assert (reward, terminated, truncated) == (0.0, False, step == limit)
    assert not info["success"] and not info["failure"]


@pytest.mark.parametrize(
    ("action", "shown"),
    [
        ([np.nan, 0.0, 0.0, 0.0, 1.0], "[nan, 0.0, 0.0, 0.0, 1.0]"),
        ([0.0, np.inf, 0.0, 0.0, 1.0], "[0.0, inf, 0.0, 0.0, 1.0]"),
        ([0.0, 0.0, 1.0], "[0.0, 0.0, 1.0]"),
        ([[0.0, 0.0, 0.0, 0.0, 1.0]], "[[0.0, 0.0, 0.0, 0.0, 1.0]]"),
    ],
)
def test_a_bad_action_is_refused_in_one_line(env, action, shown):
    env.reset(seed=0)
    with pytest.raises(SimulationError) as error:
        env.step(np.array(action, np.float32))
    assert str(error.value) == f"action {shown}: 5 finite numbers are required; check the policy's output"


def test_actions_beyond_the_limits_are_clipped(env):
    moved = []
    for size in (1.0, 50.0):
        env.reset(seed=0, options={"task": "press-red"})
        moved.append(env.step(np.array([size, 0.0, 0.0, 0.0, 1.0], np.float32))[0]["proprio"])
    np.testing.assert_array_equal(*moved)


def test_errors_of_construction_and_order():
    with pytest.raises(ConfigError, match="^camera 'fornt': no such camera; did you mean 'front'\\?$"):
        new_env(cameras=("fornt",))
    with pytest.raises(ConfigError, match="^image_size 4, cameras .*: at least 8 pixels and one camera; raise"):
        new_env(image_size=4)
    with pytest.raises(ConfigError, match="^task 'press-rad' of suite 'families': no such task; did you mean 'press-red'"):
        new_env(task="press-rad")
    env = new_env()
    with pytest.raises(ConfigError, match="^step before reset: an episode starts with reset; call reset first$"):
        env.step(STILL)
    with pytest.raises(ConfigError, match="task 'juggle' of suite 'families': no such task"):
        env.reset(options={"task": "juggle"})
    env.close()
    env.close()  # twice does no harm


def test_the_start_is_inside_the_workspace_and_differs(env):
    starts = np.array([env.reset(seed=seed)[0]["proprio"][:3] for seed in range(6)])
    positions = starts * env.proprio.scale[:3] + env.proprio.centre[:3]
    assert (positions > WORKSPACE_LOW).all() and (positions < WORKSPACE_HIGH).all()
    assert (positions.std(axis=0) > 0.005).all()


@pytest.mark.parametrize("cameras", [("front",), ("wrist", "front")])
def test_drawing_without_the_scenery_shows_the_same_image(cameras):
    env = PandaEnv(SUITE, cameras=cameras, image_size=64)
    pixels = different = 0
    for task in TASKS[:: len(cameras)]:
        for observed, *_ in play(env, task, seed=3):
            env.world._draw_scenery(True)
            whole, _ = env.world._draw(env.cameras[-1], 64)
            different += int((whole != observed["front"]).any(axis=-1).sum())
            pixels += 64 * 64
    assert different < 1e-4 * pixels  # single pixels along edges that stand on the table
    env.close()


def test_absolute_targets_move_the_arm_as_actions_do() -> None:
    # 20 random actions; the targets are what a robot would be given for them: measured tip plus delta, commanded yaw
    # plus turn. Both episodes are equal to the last bit.
    by_action, by_target = PandaEnv("families", "pick-green-cylinder"), PandaEnv("families", "pick-green-cylinder")
    first, _ = by_action.reset(seed=3)
    by_target.reset(seed=3)
    rng, limits = np.random.default_rng(0), np.asarray(by_action.actions.limits)
    for _ in range(20):
        action = rng.uniform(-1, 1, 5).astype(np.float32)
        delta = action * limits.astype(np.float32)
        arm = by_target.world.arm
        stepped = by_target.step_to(arm.tip()[0] + delta[:3], arm.yaw + delta[3], float(delta[4]))
        wanted = by_action.step(action)
        for name in ("front", "proprio"):
            np.testing.assert_array_equal(stepped[0][name], wanted[0][name])
        assert stepped[1:] == wanted[1:]
    assert not np.array_equal(first["proprio"], wanted[0]["proprio"])
