"""The closed list from a ROS 2 installation."""
