"""The robot of the graph where it is a Franka: native ROS 2 alone, for it needs actions and TF. docs/franka.md."""
