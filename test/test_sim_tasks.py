from __future__ import annotations

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from irevla_ros.core.errors import ConfigError, SimulationError
from irevla_ros.core.spec import ActionSpec
from irevla_ros.core.types import CATEGORIES
from irevla_ros.sim.env import PandaEnv
from irevla_ros.sim.objects import COLOURS
from irevla_ros.sim.panda import ARM, LOWER, UPPER
from irevla_ros.sim.suite import load_suite, parse_suite, suite_names
from irevla_ros.sim.tasks import FAMILIES, TaskSpec
from irevla_ros.sim.world import CAMERAS, FRONT, WORKSPACE_HIGH, WORKSPACE_LOW, Box, World
from sim_toys import SUITE


@pytest.fixture(scope="module")
def world():
    world = World(128, ActionSpec())
    yield world
    world.close()


# --- names, sentences and suites


def test_names_and_instructions():
    said = {task.name: task.instruction for task in SUITE.tasks}
    assert said == {
        "press-red": "press the red button",
        "pick-blue-block": "pick up the blue block",
        "push-green-cylinder-left": "push the green cylinder left",
        "open-drawer": "open the drawer",
        "open-door": "open the door",
        "put-yellow-cube-bin": "put the yellow cube in the bin",
    }
    assert {task.family for task in SUITE.tasks} == set(FAMILIES)
    far = TaskSpec("pick", colour="red", shape="cube", region="far")
    assert (far.name, far.instruction) == ("pick-red-cube@far", "pick up the red cube")


@pytest.mark.parametrize("name", suite_names())
def test_every_task_of_every_shipped_suite_can_be_set(name):
    suite = load_suite(name)
    env = PandaEnv(suite, image_size=8)
    for seed, task in enumerate(suite.tasks):
        observed, info = env.reset(seed=seed, options={"task": task.name})
        assert (observed["instruction"], info["task"]) == (task.instruction, task.name)
        assert not env.task.succeeded(env.world) and not env.task.failed(env.world)
        assert suite.category(task.name) in CATEGORIES
    env.close()


@pytest.mark.parametrize("region", ["far", "near", "left", "right"])
def test_a_region_narrows_where_the_target_starts(world, region):
    for seed in range(5):
        world.clear()
        task = TaskSpec("pick", colour="red", shape="cube", region=region).build()
        task.place(world, np.random.default_rng(seed))
        x, y, _ = world.position(task.target.body)
        assert {"far": x >= 0.51, "near": x <= 0.46, "left": y >= 0.06, "right": y <= -0.06}[region]


def test_distractors_have_other_colours_and_stand_apart(world):
    for task in SUITE.tasks:
        if task.family in ("press", "pick", "push", "put"):
            world.clear()
            built = task.build()
            built.place(world, np.random.default_rng(1))
            colours = [thing.colour for thing in (built.target, *built.others)]
            assert colours[0] == task.colour and len(set(colours)) == 3


GOOD = {
    "expert": [{"family": "press", "colour": "red"}],
    "rl": [{"family": "press", "colour": "green"}],
    "unseen": [{"family": "press", "colour": "blue"}],
}


@pytest.mark.parametrize(
    ("yaml_text", "message"),
    [
        ("experts: []", "category 'experts' in t.yaml: no such category; did you mean 'expert'"),
        ("expert: [{family: pres, colour: red}]", "task family 'pres': no such task family; did you mean 'press'"),
        ("expert: [{family: press, colour: rde}]", "colour 'rde': no such colour; did you mean 'red'"),
        ("expert: [{family: press, color: red}]",
         "key 'color' in t.yaml under expert: no such key; did you mean 'colour'"),
        ("expert: [{family: pick, colour: red, shape: cubes}]", "shape 'cubes': no such shape; did you mean 'cube'"),
        ("expert: [{family: push, colour: red, shape: cube, direction: lfet}]",
         "direction 'lfet': no such direction; did you mean 'left'"),
        ("expert: [{family: press, colour: red, region: fra}]", "region 'fra': no such region; did you mean 'far'"),
        ("expert: [{family: open, fixture: doors}]", "fixture 'doors': no such fixture; did you mean 'door'"),
        ("expert: [{family: press, colour: 3}]", "t.yaml: expert: colour: 3: must be text; quote it"),
        ("expert: [{colour: red}]", "t.yaml: expert: {'colour': 'red'}: a task names its family; "
         "add family: one of open, pick, press, push, put"),
        ("expert: [press]", "t.yaml: expert: 'press': a task is a mapping such as {family: press}; give its family, "),
        ("expert: {family: press}",
         "t.yaml: expert: {'family': 'press'}: a category is a list of tasks; begin each task with a dash"),
        ("expert: 3", "t.yaml: expert: 3: a category is a list of tasks; begin each task with a dash"),
        ("[press]", "t.yaml: a suite is a mapping of categories to lists of tasks; see config/suites/demo.yaml"),
        ("expert: [{family: press}]", "colour='' in a press task: a press task needs colour; give exactly these"),
        ("expert: [{family: press, colour: red, shape: cube}]",
         "shape='cube' in a press task: a press task needs colour; give exactly these"),
        ("expert: [{family: press, colour: red}, {family: press, colour: red}]",
         "suite 't' has 'press-red' twice: a task stands in one category once; remove one of them"),
        ("rl: []", "suite 't' has no rl task: each category has at least one; add a task under rl"),
        ("expert: [{family: put, colour: red, shape: block, container: bin}]",
         "task 'put-red-block-bin': a block is longer than the bin is wide; put it in the tray"),
    ],
)  # fmt: skip
def test_bad_suites_are_refused_in_one_line(yaml_text, message):
    content = yaml.safe_load(yaml_text)
    with pytest.raises(ConfigError) as error:
        parse_suite("t", {**GOOD, **content} if isinstance(content, dict) else content, "t.yaml")
    assert str(error.value)[: len(message)] == message
    assert "\n" not in str(error.value)


def test_suite_files(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    suite = load_suite(str(path))
    assert suite.name == "mine" and [task.name for task in suite.expert] == ["press-red"]
    with pytest.raises(ConfigError, match="^suite file 'none.yaml': no such file; give an existing YAML file"):
        load_suite("none.yaml")
    with pytest.raises(ConfigError, match="^suite 'dmeo': no such suite; did you mean 'demo'\\?$"):
        load_suite("dmeo")
    broken = tmp_path / "broken.yaml"
    broken.write_text("expert: [{family: press\n")
    with pytest.raises(ConfigError, match=r"broken.yaml: is not valid YAML \(line 2: .*\); correct that line$") as error:
        load_suite(str(broken))
    assert "\n" not in str(error.value)


# --- control


def act(**physical: float):
    """A normalised action from parts of it; the gripper stays open."""
    return np.array([physical.get(name, 1.0 if name == "gripper" else 0.0) for name in ActionSpec().names], np.float32)


def start(world, position=(0.45, 0.0, 0.15), yaw=0.0):
    world.clear()
    world.place_arm(np.array(position), yaw, 1.0)
    world.settle(12)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_full_action_moves_the_tip_by_the_limit(world, axis, sign):
    start(world)
    before = world.arm.tip()[0]
    for _ in range(3):
        world.step(act(**{("dx", "dy", "dz")[axis]: sign}))
    moved = world.arm.tip()[0] - before
    assert 3 * 0.04 * 0.88 < sign * moved[axis] < 3 * 0.04 * 1.02  # the joints' controllers lag by a tenth
    assert (np.abs(np.delete(moved, axis)) < 0.01).all()


def test_half_an_action_moves_half_as_far_and_none_keeps_still(world):
    start(world)
    before = world.arm.tip()[0]
    world.step(act(dx=0.5))
    assert world.arm.tip()[0][0] - before[0] == pytest.approx(0.02, abs=0.002)
    start(world)
    before = world.arm.tip()[0]
    for _ in range(5):
        world.step(act())
    assert np.linalg.norm(world.arm.tip()[0] - before) < 0.002


def test_the_hand_turns_by_the_commanded_yaw_about_the_tip(world):
    start(world)
    before = world.arm.tip()[0]
    for _ in range(4):
        world.step(act(drz=1.0))
    assert world.arm.measured_yaw() == pytest.approx(4 * 0.25, abs=0.02)
    assert np.linalg.norm(world.arm.tip()[0] - before) < 0.012
    for _ in range(12):
        world.step(act(drz=1.0))
    assert world.arm.measured_yaw() == pytest.approx(1.7, abs=0.02)  # the limit


def test_the_gripper_opens_and_closes(world):
    start(world)
    widths = []
    for gripper in (1.0, -1.0, -1.0, 1.0, 1.0):
        world.step(act(gripper=gripper))
        widths.append(world.arm.gripper_width())
    assert widths[0] == pytest.approx(0.08, abs=1e-3) and widths[4] == pytest.approx(0.08, abs=1e-3)
    assert widths[2] < 0.002


@settings(max_examples=8)
@given(st.integers(0, 2**31), st.booleans())
def test_workspace_and_joint_limits_hold(world, seed, constant):
    rng = np.random.default_rng(seed)
    start(world, rng.uniform(WORKSPACE_LOW, WORKSPACE_HIGH), rng.uniform(-1.5, 1.5))
    action = rng.choice([-1.0, 1.0], 5)
    for _ in range(15):
        world.step((action if constant else rng.uniform(-3.0, 3.0, 5)).astype(np.float32))
        tip = world.arm.tip()[0]
        # Commands are inside the box; the arm itself swings a little beyond.
        assert (tip > WORKSPACE_LOW - 0.02).all() and (tip < WORKSPACE_HIGH + 0.02).all()
        joints = np.array([state[0] for state in world.p.getJointStates(world.arm.id, ARM)])
        assert (joints > LOWER).all() and (joints < UPPER).all()


# --- camera


@pytest.mark.parametrize("place", [(0.45, 0.0, 0.02), (0.40, 0.15, 0.02), (0.56, -0.14, 0.05), (0.50, 0.10, 0.15)])
def test_a_point_is_drawn_where_the_camera_projects_it(world, place):
    world.clear()
    world.place_arm(np.array([0.30, -0.25, 0.34]), 0.0, 1.0)
    world.add_body([Box((0.006, 0.006, 0.006))], (1.0, 0.0, 1.0, 1.0), place, 0.0, mass=0.0)
    image = world.render(FRONT).astype(int)
    rows, columns = np.nonzero((image[..., 0] - image[..., 1] > 60) & (image[..., 2] - image[..., 1] > 60))
    assert len(rows) > 4
    expected = 128 * FRONT.project(np.array(place))
    assert np.abs(np.array([columns.mean() + 0.5, rows.mean() + 0.5]) - expected).max() < 1.0


def test_only_a_fixed_camera_projects():
    with pytest.raises(SimulationError, match="^camera 'wrist': only a fixed camera projects; use the front camera$"):
        CAMERAS["wrist"].project(np.zeros(3))


def test_the_table_fills_the_background_of_the_front_camera(world):
    world.clear()
    world.place_arm(np.array([0.30, -0.25, 0.34]), 0.0, 1.0)
    image = world.render(FRONT, 32)
    assert len(COLOURS) == 8
    assert (image == image[-1, -1]).all(axis=-1).mean() > 0.5
    assert not (image == 255).all(axis=-1).all()
