"""Parameter values and their types, with rclpy's conversions to and from messages."""

from __future__ import annotations

import array
from enum import Enum
from typing import Any

import numpy as np

from irevla_ros.ros.embedded.types.message import message_class

ParameterMsg = message_class("rcl_interfaces/msg/Parameter")
ParameterValue = message_class("rcl_interfaces/msg/ParameterValue")
ParameterType = message_class("rcl_interfaces/msg/ParameterType")
ParameterDescriptor = message_class("rcl_interfaces/msg/ParameterDescriptor")
SetParametersResult = message_class("rcl_interfaces/msg/SetParametersResult")
IntegerRange = message_class("rcl_interfaces/msg/IntegerRange")
FloatingPointRange = message_class("rcl_interfaces/msg/FloatingPointRange")

_SCALARS: tuple[tuple[type, str], ...] = ((bool, "BOOL"), (int, "INTEGER"), (float, "DOUBLE"), (str, "STRING"))
_SEQUENCES = (list, tuple, array.array, np.ndarray)
# Parameter type -> the field of ParameterValue that holds it.
_VALUE_FIELDS = {
    "BOOL": "bool_value", "INTEGER": "integer_value", "DOUBLE": "double_value", "STRING": "string_value",
    "BYTE_ARRAY": "byte_array_value", "BOOL_ARRAY": "bool_array_value", "INTEGER_ARRAY": "integer_array_value",
    "DOUBLE_ARRAY": "double_array_value", "STRING_ARRAY": "string_array_value",
}  # fmt: skip


class Parameter:
    """A name, a type and a value."""

    class Type(Enum):
        NOT_SET = ParameterType.PARAMETER_NOT_SET
        BOOL = ParameterType.PARAMETER_BOOL
        INTEGER = ParameterType.PARAMETER_INTEGER
        DOUBLE = ParameterType.PARAMETER_DOUBLE
        STRING = ParameterType.PARAMETER_STRING
        BYTE_ARRAY = ParameterType.PARAMETER_BYTE_ARRAY
        BOOL_ARRAY = ParameterType.PARAMETER_BOOL_ARRAY
        INTEGER_ARRAY = ParameterType.PARAMETER_INTEGER_ARRAY
        DOUBLE_ARRAY = ParameterType.PARAMETER_DOUBLE_ARRAY
        STRING_ARRAY = ParameterType.PARAMETER_STRING_ARRAY

        @classmethod
        def from_parameter_value(cls, parameter_value: Any) -> Parameter.Type:
            """The type of a Python value; an empty list is a BYTE_ARRAY, as in rclpy. Raises TypeError."""
            if parameter_value is None:
                return cls.NOT_SET
            for kind, name in _SCALARS:
                if isinstance(parameter_value, kind):
                    return cls[name]
            if isinstance(parameter_value, _SEQUENCES):
                values = _plain(parameter_value)
                for kind, name in ((bytes, "BYTE"), *_SCALARS):
                    if all(isinstance(value, kind) for value in values):
                        return cls[name + "_ARRAY"]
            raise TypeError(f"The given value is not one of the allowed types '{parameter_value}'.")

        def check(self, parameter_value: Any) -> bool:
            """Whether a Python value can be a parameter of this type."""
            if isinstance(parameter_value, _SEQUENCES) and len(parameter_value) == 0:
                return self.name.endswith("_ARRAY")
            try:
                found = Parameter.Type.from_parameter_value(parameter_value)
            except TypeError:
                return False
            # bool is an int in Python: rclpy lets it pass there too.
            return found is self or (self.name.startswith("INTEGER") and found.name == self.name.replace("INTEGER", "BOOL"))

    def __init__(self, name: str, type_: Parameter.Type | None = None, value: Any = None) -> None:
        if type_ is None:
            type_ = Parameter.Type.from_parameter_value(value)
        if not isinstance(type_, Parameter.Type):
            raise TypeError(f"type must be an instance of '{Parameter.Type!r}'")
        if not type_.check(value):
            raise ValueError(f"Type '{type_}' and value '{value}' do not agree")
        self._name = name
        self._type = type_
        self._value = _plain(value) if isinstance(value, (array.array, np.ndarray)) else value

    @property
    def name(self) -> str:
        return self._name

    @property
    def type_(self) -> Parameter.Type:
        return self._type

    @property
    def value(self) -> Any:
        return self._value

    def get_parameter_value(self) -> Any:
        """The value as rcl_interfaces/msg/ParameterValue."""
        message = ParameterValue(type=self._type.value)
        if self._type is not Parameter.Type.NOT_SET:
            setattr(message, _VALUE_FIELDS[self._type.name], self._value)
        return message

    def to_parameter_msg(self) -> Any:
        return ParameterMsg(name=self._name, value=self.get_parameter_value())

    @classmethod
    def from_parameter_msg(cls, param_msg: Any) -> Parameter:
        type_ = Parameter.Type(param_msg.value.type)
        if type_ is Parameter.Type.NOT_SET:
            return cls(param_msg.name, type_, None)
        return cls(param_msg.name, type_, getattr(param_msg.value, _VALUE_FIELDS[type_.name]))

    def __repr__(self) -> str:
        return f"Parameter({self._name!r}, {self._type}, {self._value!r})"


def _plain(values: Any) -> list[Any]:
    return values.tolist() if isinstance(values, (array.array, np.ndarray)) else list(values)
