"""The graph config/graphs/franka.yaml beside the robot's own controllers; `--show-args` lists the arguments."""

from irevla_ros.nodes.launch import graph_description


def generate_launch_description():
    return graph_description("franka", {
        "robot_ip": ("", "address of the robot, for nodes that ask it directly; none does yet"),
        "dry_run": (True, "send nothing to the robot; the arbiter's engage_allowed, false as shipped, refuses in any case"),
    })  # fmt: skip
