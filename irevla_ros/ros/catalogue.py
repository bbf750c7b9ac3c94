"""The message and service types that nodes may use: the name under ``irevla_ros.ros.messages`` and ROS's full name.

Standard packages only: an ament_python package cannot define messages, and standard bags open everywhere. Where two
packages, or a package and rclpy, use one name, the rarer of the two is renamed here.
"""

from __future__ import annotations

_MESSAGES = {
    "builtin_interfaces": "",
    "std_msgs": "Bool ColorRGBA Empty Float32 Float64 Header Int32 Int64 String",
    "geometry_msgs": "Point PointStamped Pose PoseStamped Quaternion QuaternionStamped Transform TransformStamped"
                     " Twist TwistStamped Vector3 Vector3Stamped Wrench WrenchStamped",
    "sensor_msgs": "CameraInfo CompressedImage Image JointState Joy RegionOfInterest",
    "trajectory_msgs": "JointTrajectory JointTrajectoryPoint",
    "diagnostic_msgs": "DiagnosticArray DiagnosticStatus KeyValue",
    "rosgraph_msgs": "Clock",
    "control_msgs": "GripperCommand",
    "rcl_interfaces": "FloatingPointRange IntegerRange ListParametersResult Log ParameterDescriptor ParameterType"
                      " ParameterValue SetParametersResult",
}  # fmt: skip
_SERVICES = {
    "std_srvs": "SetBool Trigger",
    "rcl_interfaces": "DescribeParameters GetParameterTypes GetParameters ListParameters SetParameters"
                      " SetParametersAtomically",
}  # fmt: skip

MESSAGES: dict[str, str] = {
    **{name: f"{package}/msg/{name}" for package, names in _MESSAGES.items() for name in names.split()},
    "TimeMsg": "builtin_interfaces/msg/Time",
    "DurationMsg": "builtin_interfaces/msg/Duration",
    "ParameterMsg": "rcl_interfaces/msg/Parameter",
}
SERVICES: dict[str, str] = {
    **{name: f"{package}/srv/{name}" for package, names in _SERVICES.items() for name in names.split()},
    "EmptySrv": "std_srvs/srv/Empty",
}
CATALOGUE: dict[str, str] = MESSAGES | SERVICES
