"""A vision-language-action policy that practises on a Franka: iRe-VLA for ROS 2 and for simulation."""

__version__ = "0.1.0"
