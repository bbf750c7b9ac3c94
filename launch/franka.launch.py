"""The graph config/graphs/franka.yaml beside the robot's own controllers; `--show-args` lists the arguments."""

from irevla_ros.nodes.launch import graph_description


def generate_launch_description():
    return graph_description("franka", {
        "robot_ip": ("", "address of the robot, for what asks it directly (crisp_controllers are started on their own)"),
        "dry_run": (True, "send nothing to the robot"),
    })  # fmt: skip
