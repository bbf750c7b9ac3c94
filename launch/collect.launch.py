"""The graph config/graphs/collect.yaml, as in `irevla collect`, without the terminal; `--show-args` lists the arguments."""

from irevla_ros.nodes.launch import graph_description


def generate_launch_description():
    return graph_description("collect")
