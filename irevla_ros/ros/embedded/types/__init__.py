"""Message types without a ROS installation: definitions, Python classes, CDR and type hashes."""
