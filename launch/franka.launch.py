"""The graph config/graphs/franka.yaml beside the robot's own controllers; `--show-args` lists the arguments."""

from irevla_ros.nodes.launch import graph_description


def generate_launch_description():
    return graph_description("franka", {
        "robot_ip": ("", "address of the robot, for nodes that ask it directly; none does yet"),
        "dry_run": (True, "send nothing to the robot; without it, the arm is moved after arbiter/engage: docs/safety.md"),
    })  # fmt: skip
