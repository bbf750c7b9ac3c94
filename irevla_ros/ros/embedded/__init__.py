"""rclpy's names on Eclipse Zenoh and rosbags: a node without a ROS installation. Wire format: docs/middleware.md."""
