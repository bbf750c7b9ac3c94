"""Episodes out of a spool and back: LeRobotDataset v3, rosbag2 MCAP, and bags of the live graph. docs/data.md."""
