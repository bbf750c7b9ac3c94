"""Types, configuration, errors and statistics. numpy only: no torch, no simulator, no ROS, no clock."""
