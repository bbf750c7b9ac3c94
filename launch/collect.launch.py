"""The graph config/graphs/collect.yaml, the nodes of `irevla collect` without its terminal; `--show-args` lists the arguments."""

from irevla_ros.nodes.launch import graph_description


def generate_launch_description():
    return graph_description("collect")
