"""The graph config/graphs/franka.yaml beside a Franka's controllers, or with them; `--show-args` lists the arguments."""

from irevla_ros.nodes.launch import Bringup, graph_description


def generate_launch_description():
    return graph_description(
        "franka",
        {"dry_run": (True, "send nothing to the robot; without it, the arm is moved after arbiter/engage: docs/safety.md")},
        Bringup("franka_bringup", "franka.launch.py", "cartesian_impedance_controller", {
            "robot_ip": ("172.16.0.3", "address of the robot; of several arms one each, by commas"),
            "robot_type": ("fr3", "model of the arm, as franka_description has it"),
            "arm_prefix": ("", "what joints and frames begin with, such as left,right; say it to the franka nodes, too"),
            "load_gripper": ("true", "with the Franka Hand"),
            "use_fake_hardware": ("false", "no robot: joints go where they are told (then reset.by: trajectory)"),
            "controllers_yaml": ("", "controllers of the controller_manager, crisp_controllers' among them; docs/franka.md"),
        }),
    )  # fmt: skip
