"""Written by irevla_ros.ros.embedded.stubs: the types of catalogue.py and their fields."""

import array
from typing import Any, ClassVar

# Numbers in the plural: a numpy array (embedded) or array.array (native); numpy.asarray reads both.
Numbers = Any

def numbers(typecode: str, values: Any) -> array.array[Any]: ...

class Bool:
    data: bool
    def __init__(
        self,
        *,
        data: bool = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class CameraInfo:
    header: Header
    height: int
    width: int
    distortion_model: str
    d: Numbers
    k: Numbers
    r: Numbers
    p: Numbers
    binning_x: int
    binning_y: int
    roi: RegionOfInterest
    def __init__(
        self,
        *,
        header: Header = ...,
        height: int = ...,
        width: int = ...,
        distortion_model: str = ...,
        d: Numbers = ...,
        k: Numbers = ...,
        r: Numbers = ...,
        p: Numbers = ...,
        binning_x: int = ...,
        binning_y: int = ...,
        roi: RegionOfInterest = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class Clock:
    clock: TimeMsg
    def __init__(
        self,
        *,
        clock: TimeMsg = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class ColorRGBA:
    r: float
    g: float
    b: float
    a: float
    def __init__(
        self,
        *,
        r: float = ...,
        g: float = ...,
        b: float = ...,
        a: float = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class CompressedImage:
    header: Header
    format: str
    data: Numbers
    def __init__(
        self,
        *,
        header: Header = ...,
        format: str = ...,
        data: Numbers = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class DiagnosticArray:
    header: Header
    status: list[DiagnosticStatus]
    def __init__(
        self,
        *,
        header: Header = ...,
        status: list[DiagnosticStatus] = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class DiagnosticStatus:
    OK: ClassVar[bytes]
    WARN: ClassVar[bytes]
    ERROR: ClassVar[bytes]
    STALE: ClassVar[bytes]
    level: bytes
    name: str
    message: str
    hardware_id: str
    values: list[KeyValue]
    def __init__(
        self,
        *,
        level: bytes = ...,
        name: str = ...,
        message: str = ...,
        hardware_id: str = ...,
        values: list[KeyValue] = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class DurationMsg:
    sec: int
    nanosec: int
    def __init__(
        self,
        *,
        sec: int = ...,
        nanosec: int = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class Empty:
    def __init__(self) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class Float32:
    data: float
    def __init__(
        self,
        *,
        data: float = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class Float64:
    data: float
    def __init__(
        self,
        *,
        data: float = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class FloatingPointRange:
    from_value: float
    to_value: float
    step: float
    def __init__(
        self,
        *,
        from_value: float = ...,
        to_value: float = ...,
        step: float = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class GripperCommand:
    position: float
    max_effort: float
    def __init__(
        self,
        *,
        position: float = ...,
        max_effort: float = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class Header:
    stamp: TimeMsg
    frame_id: str
    def __init__(
        self,
        *,
        stamp: TimeMsg = ...,
        frame_id: str = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class Image:
    header: Header
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Numbers
    def __init__(
        self,
        *,
        header: Header = ...,
        height: int = ...,
        width: int = ...,
        encoding: str = ...,
        is_bigendian: int = ...,
        step: int = ...,
        data: Numbers = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class Int32:
    data: int
    def __init__(
        self,
        *,
        data: int = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class Int64:
    data: int
    def __init__(
        self,
        *,
        data: int = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class IntegerRange:
    from_value: int
    to_value: int
    step: int
    def __init__(
        self,
        *,
        from_value: int = ...,
        to_value: int = ...,
        step: int = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class JointState:
    header: Header
    name: list[str]
    position: Numbers
    velocity: Numbers
    effort: Numbers
    def __init__(
        self,
        *,
        header: Header = ...,
        name: list[str] = ...,
        position: Numbers = ...,
        velocity: Numbers = ...,
        effort: Numbers = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class JointTrajectory:
    header: Header
    joint_names: list[str]
    points: list[JointTrajectoryPoint]
    def __init__(
        self,
        *,
        header: Header = ...,
        joint_names: list[str] = ...,
        points: list[JointTrajectoryPoint] = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class JointTrajectoryPoint:
    positions: Numbers
    velocities: Numbers
    accelerations: Numbers
    effort: Numbers
    time_from_start: DurationMsg
    def __init__(
        self,
        *,
        positions: Numbers = ...,
        velocities: Numbers = ...,
        accelerations: Numbers = ...,
        effort: Numbers = ...,
        time_from_start: DurationMsg = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class Joy:
    header: Header
    axes: Numbers
    buttons: Numbers
    def __init__(
        self,
        *,
        header: Header = ...,
        axes: Numbers = ...,
        buttons: Numbers = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class KeyValue:
    key: str
    value: str
    def __init__(
        self,
        *,
        key: str = ...,
        value: str = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class ListParametersResult:
    names: list[str]
    prefixes: list[str]
    def __init__(
        self,
        *,
        names: list[str] = ...,
        prefixes: list[str] = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class Log:
    DEBUG: ClassVar[int]
    INFO: ClassVar[int]
    WARN: ClassVar[int]
    ERROR: ClassVar[int]
    FATAL: ClassVar[int]
    stamp: TimeMsg
    level: int
    name: str
    msg: str
    file: str
    function: str
    line: int
    def __init__(
        self,
        *,
        stamp: TimeMsg = ...,
        level: int = ...,
        name: str = ...,
        msg: str = ...,
        file: str = ...,
        function: str = ...,
        line: int = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class ParameterDescriptor:
    name: str
    type: int
    description: str
    additional_constraints: str
    read_only: bool
    dynamic_typing: bool
    floating_point_range: list[FloatingPointRange]
    integer_range: list[IntegerRange]
    def __init__(
        self,
        *,
        name: str = ...,
        type: int = ...,
        description: str = ...,
        additional_constraints: str = ...,
        read_only: bool = ...,
        dynamic_typing: bool = ...,
        floating_point_range: list[FloatingPointRange] = ...,
        integer_range: list[IntegerRange] = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class ParameterMsg:
    name: str
    value: ParameterValue
    def __init__(
        self,
        *,
        name: str = ...,
        value: ParameterValue = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class ParameterType:
    PARAMETER_NOT_SET: ClassVar[int]
    PARAMETER_BOOL: ClassVar[int]
    PARAMETER_INTEGER: ClassVar[int]
    PARAMETER_DOUBLE: ClassVar[int]
    PARAMETER_STRING: ClassVar[int]
    PARAMETER_BYTE_ARRAY: ClassVar[int]
    PARAMETER_BOOL_ARRAY: ClassVar[int]
    PARAMETER_INTEGER_ARRAY: ClassVar[int]
    PARAMETER_DOUBLE_ARRAY: ClassVar[int]
    PARAMETER_STRING_ARRAY: ClassVar[int]
    def __init__(self) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class ParameterValue:
    type: int
    bool_value: bool
    integer_value: int
    double_value: float
    string_value: str
    byte_array_value: list[bytes]
    bool_array_value: Numbers
    integer_array_value: Numbers
    double_array_value: Numbers
    string_array_value: list[str]
    def __init__(
        self,
        *,
        type: int = ...,
        bool_value: bool = ...,
        integer_value: int = ...,
        double_value: float = ...,
        string_value: str = ...,
        byte_array_value: list[bytes] = ...,
        bool_array_value: Numbers = ...,
        integer_array_value: Numbers = ...,
        double_array_value: Numbers = ...,
        string_array_value: list[str] = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class Point:
    x: float
    y: float
    z: float
    def __init__(
        self,
        *,
        x: float = ...,
        y: float = ...,
        z: float = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class PointStamped:
    header: Header
    point: Point
    def __init__(
        self,
        *,
        header: Header = ...,
        point: Point = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class Pose:
    position: Point
    orientation: Quaternion
    def __init__(
        self,
        *,
        position: Point = ...,
        orientation: Quaternion = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class PoseStamped:
    header: Header
    pose: Pose
    def __init__(
        self,
        *,
        header: Header = ...,
        pose: Pose = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class Quaternion:
    x: float
    y: float
    z: float
    w: float
    def __init__(
        self,
        *,
        x: float = ...,
        y: float = ...,
        z: float = ...,
        w: float = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class QuaternionStamped:
    header: Header
    quaternion: Quaternion
    def __init__(
        self,
        *,
        header: Header = ...,
        quaternion: Quaternion = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class RegionOfInterest:
    x_offset: int
    y_offset: int
    height: int
    width: int
    do_rectify: bool
    def __init__(
        self,
        *,
        x_offset: int = ...,
        y_offset: int = ...,
        height: int = ...,
        width: int = ...,
        do_rectify: bool = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class SetParametersResult:
    successful: bool
    reason: str
    def __init__(
        self,
        *,
        successful: bool = ...,
        reason: str = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class String:
    data: str
    def __init__(
        self,
        *,
        data: str = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class TimeMsg:
    sec: int
    nanosec: int
    def __init__(
        self,
        *,
        sec: int = ...,
        nanosec: int = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class Transform:
    translation: Vector3
    rotation: Quaternion
    def __init__(
        self,
        *,
        translation: Vector3 = ...,
        rotation: Quaternion = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class TransformStamped:
    header: Header
    child_frame_id: str
    transform: Transform
    def __init__(
        self,
        *,
        header: Header = ...,
        child_frame_id: str = ...,
        transform: Transform = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class Twist:
    linear: Vector3
    angular: Vector3
    def __init__(
        self,
        *,
        linear: Vector3 = ...,
        angular: Vector3 = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class TwistStamped:
    header: Header
    twist: Twist
    def __init__(
        self,
        *,
        header: Header = ...,
        twist: Twist = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class Vector3:
    x: float
    y: float
    z: float
    def __init__(
        self,
        *,
        x: float = ...,
        y: float = ...,
        z: float = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class Vector3Stamped:
    header: Header
    vector: Vector3
    def __init__(
        self,
        *,
        header: Header = ...,
        vector: Vector3 = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class Wrench:
    force: Vector3
    torque: Vector3
    def __init__(
        self,
        *,
        force: Vector3 = ...,
        torque: Vector3 = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class WrenchStamped:
    header: Header
    wrench: Wrench
    def __init__(
        self,
        *,
        header: Header = ...,
        wrench: Wrench = ...,
    ) -> None: ...
    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]: ...

class DescribeParameters:
    class Request:
        names: list[str]
        def __init__(
            self,
            *,
            names: list[str] = ...,
        ) -> None: ...
        @classmethod
        def get_fields_and_field_types(cls) -> dict[str, str]: ...

    class Response:
        descriptors: list[ParameterDescriptor]
        def __init__(
            self,
            *,
            descriptors: list[ParameterDescriptor] = ...,
        ) -> None: ...
        @classmethod
        def get_fields_and_field_types(cls) -> dict[str, str]: ...

class EmptySrv:
    class Request:
        def __init__(self) -> None: ...
        @classmethod
        def get_fields_and_field_types(cls) -> dict[str, str]: ...

    class Response:
        def __init__(self) -> None: ...
        @classmethod
        def get_fields_and_field_types(cls) -> dict[str, str]: ...

class GetParameterTypes:
    class Request:
        names: list[str]
        def __init__(
            self,
            *,
            names: list[str] = ...,
        ) -> None: ...
        @classmethod
        def get_fields_and_field_types(cls) -> dict[str, str]: ...

    class Response:
        types: Numbers
        def __init__(
            self,
            *,
            types: Numbers = ...,
        ) -> None: ...
        @classmethod
        def get_fields_and_field_types(cls) -> dict[str, str]: ...

class GetParameters:
    class Request:
        names: list[str]
        def __init__(
            self,
            *,
            names: list[str] = ...,
        ) -> None: ...
        @classmethod
        def get_fields_and_field_types(cls) -> dict[str, str]: ...

    class Response:
        values: list[ParameterValue]
        def __init__(
            self,
            *,
            values: list[ParameterValue] = ...,
        ) -> None: ...
        @classmethod
        def get_fields_and_field_types(cls) -> dict[str, str]: ...

class ListParameters:
    class Request:
        DEPTH_RECURSIVE: ClassVar[int]
        prefixes: list[str]
        depth: int
        def __init__(
            self,
            *,
            prefixes: list[str] = ...,
            depth: int = ...,
        ) -> None: ...
        @classmethod
        def get_fields_and_field_types(cls) -> dict[str, str]: ...

    class Response:
        result: ListParametersResult
        def __init__(
            self,
            *,
            result: ListParametersResult = ...,
        ) -> None: ...
        @classmethod
        def get_fields_and_field_types(cls) -> dict[str, str]: ...

class SetBool:
    class Request:
        data: bool
        def __init__(
            self,
            *,
            data: bool = ...,
        ) -> None: ...
        @classmethod
        def get_fields_and_field_types(cls) -> dict[str, str]: ...

    class Response:
        success: bool
        message: str
        def __init__(
            self,
            *,
            success: bool = ...,
            message: str = ...,
        ) -> None: ...
        @classmethod
        def get_fields_and_field_types(cls) -> dict[str, str]: ...

class SetParameters:
    class Request:
        parameters: list[ParameterMsg]
        def __init__(
            self,
            *,
            parameters: list[ParameterMsg] = ...,
        ) -> None: ...
        @classmethod
        def get_fields_and_field_types(cls) -> dict[str, str]: ...

    class Response:
        results: list[SetParametersResult]
        def __init__(
            self,
            *,
            results: list[SetParametersResult] = ...,
        ) -> None: ...
        @classmethod
        def get_fields_and_field_types(cls) -> dict[str, str]: ...

class SetParametersAtomically:
    class Request:
        parameters: list[ParameterMsg]
        def __init__(
            self,
            *,
            parameters: list[ParameterMsg] = ...,
        ) -> None: ...
        @classmethod
        def get_fields_and_field_types(cls) -> dict[str, str]: ...

    class Response:
        result: SetParametersResult
        def __init__(
            self,
            *,
            result: SetParametersResult = ...,
        ) -> None: ...
        @classmethod
        def get_fields_and_field_types(cls) -> dict[str, str]: ...

class Trigger:
    class Request:
        def __init__(self) -> None: ...
        @classmethod
        def get_fields_and_field_types(cls) -> dict[str, str]: ...

    class Response:
        success: bool
        message: str
        def __init__(
            self,
            *,
            success: bool = ...,
            message: str = ...,
        ) -> None: ...
        @classmethod
        def get_fields_and_field_types(cls) -> dict[str, str]: ...
