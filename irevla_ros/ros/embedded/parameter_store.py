"""A node's parameters: declared once with type, range and default, overridden from outside, set under checks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from irevla_ros.ros.embedded.exceptions import (
    InvalidParameterException,
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterAlreadyDeclaredException,
    ParameterNotDeclaredException,
    ParameterUninitializedException,
)
from irevla_ros.ros.embedded.parameter import Parameter, ParameterDescriptor, ParameterType, SetParametersResult

Check = Callable[[list[Parameter]], Any]
_RELATIVE_TOLERANCE = 1e-6


class ParameterStore:
    """Declared parameters and their descriptors; the rules of rclpy's Node, without the node."""

    def __init__(self, overrides: Mapping[str, Any]) -> None:
        self._overrides = dict(overrides)
        self._parameters: dict[str, Parameter] = {}
        self._descriptors: dict[str, Any] = {}
        self._checks: list[Check] = []

    def declare(self, name: str, value: Any, descriptor: Any, ignore_override: bool) -> Parameter:
        """Add a parameter; what the command line or a file says takes the place of the default ``value``.

        Raises ParameterAlreadyDeclaredException, InvalidParameterException (the name), InvalidParameterTypeException
        and InvalidParameterValueException (range, or a callback's refusal).
        """
        if not name or name.startswith("."):
            raise InvalidParameterException(f"parameter {name!r}", "no such name is allowed", "name it like.this")
        if name in self._parameters:
            raise ParameterAlreadyDeclaredException(f"parameter {name!r}", "declared already", "declare it once")
        descriptor = ParameterDescriptor() if descriptor is None else descriptor
        if isinstance(value, Parameter.Type):
            descriptor.type, value = value.value, None
        elif not descriptor.dynamic_typing:
            descriptor.type = Parameter.Type.from_parameter_value(value).value
        if descriptor.type == ParameterType.PARAMETER_NOT_SET and not descriptor.dynamic_typing:
            raise ValueError(f"parameter {name!r} needs a default value, a type, or a descriptor with dynamic_typing")
        source = "default"
        if not ignore_override and name in self._overrides:
            value, source = self._overrides[name], "override"
        parameter = self._typed(name, value, descriptor, source)
        refusal = _refusal(parameter, descriptor, read_only=False)
        refusal = refusal or self._refused_by_node([parameter])
        if refusal:
            raise InvalidParameterValueException(f"parameter {name!r} = {value!r}", refusal, f"change the {source}")
        descriptor.name = name
        self._parameters[name], self._descriptors[name] = parameter, descriptor
        return parameter

    def __contains__(self, name: str) -> bool:
        return name in self._parameters

    def get(self, name: str) -> Parameter:
        """Raises ParameterNotDeclaredException and, for one declared by type only, ParameterUninitializedException."""
        self._require([name])
        parameter = self._parameters[name]
        if parameter.type_ is Parameter.Type.NOT_SET and not self._descriptors[name].dynamic_typing:
            raise ParameterUninitializedException(f"parameter {name!r}", "has no value", "set it, or give it a default")
        return parameter

    def describe(self, name: str) -> Any:
        self._require([name])
        return self._descriptors[name]

    def names(self) -> list[str]:
        return list(self._parameters)

    def set_atomically(self, parameters: Sequence[Parameter]) -> Any:
        """All or none: SetParametersResult with the reason. Raises ParameterNotDeclaredException."""
        self._require(parameter.name for parameter in parameters)
        reasons = (_refusal(one, self._descriptors[one.name], read_only=True) for one in parameters)
        reason = next(filter(None, reasons), "") or self._refused_by_node(list(parameters))
        if reason:
            return SetParametersResult(successful=False, reason=reason)
        for parameter in parameters:
            if self._descriptors[parameter.name].dynamic_typing:
                self._descriptors[parameter.name].type = parameter.type_.value
            self._parameters[parameter.name] = parameter
        return SetParametersResult(successful=True)

    def add_check(self, check: Check) -> None:
        self._checks.insert(0, check)

    def _require(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self._parameters:
                known = ", ".join(sorted(self._parameters)) or "none"
                raise ParameterNotDeclaredException(f"parameter {name!r}", "not declared", f"declared are: {known}")

    def _refused_by_node(self, parameters: list[Parameter]) -> str:
        for check in self._checks:
            result = check(parameters)
            if not result.successful:
                return result.reason or "rejected by the node"
        return ""

    def _typed(self, name: str, value: Any, descriptor: Any, source: str) -> Parameter:
        expected = Parameter.Type(descriptor.type)
        if value is None and not descriptor.dynamic_typing:
            return Parameter(name, Parameter.Type.NOT_SET)
        try:
            if descriptor.dynamic_typing:
                return Parameter(name, value=value)
            return Parameter(name, expected, value)
        except (TypeError, ValueError):
            found = Parameter.Type.from_parameter_value(value).name
            remedy = f"change the {source}" + (", e.g. 1.0 for 1" if expected is Parameter.Type.DOUBLE else "")
            rule = f"is {found}, must be {expected.name}"
            raise InvalidParameterTypeException(f"parameter {name!r} = {value!r}", rule, remedy) from None


def _refusal(parameter: Parameter, descriptor: Any, *, read_only: bool) -> str:
    """Why the descriptor forbids the value; empty if it does not."""
    if read_only and descriptor.read_only:
        return f"Trying to set a read-only parameter: {parameter.name}."
    if not descriptor.dynamic_typing:
        expected = Parameter.Type(descriptor.type)
        if read_only and parameter.type_ is Parameter.Type.NOT_SET:
            return "Static parameter cannot be undeclared"
        if parameter.type_ not in (expected, Parameter.Type.NOT_SET):
            return f"Wrong parameter type, expected '{expected}' got '{parameter.type_}'"
    if parameter.type_ is Parameter.Type.INTEGER and descriptor.integer_range:
        return _outside_integers(parameter, descriptor.integer_range[0])
    if parameter.type_ is Parameter.Type.DOUBLE and descriptor.floating_point_range:
        return _outside_floats(parameter, descriptor.floating_point_range[0])
    return ""


def _outside_integers(parameter: Parameter, limits: Any) -> str:
    low, high = sorted((limits.from_value, limits.to_value))
    value = parameter.value
    if not low <= value <= high:
        return f"Parameter {parameter.name} out of range. Min: {low}, Max: {high}, value: {value}"
    if limits.step and value != high and (value - low) % limits.step:
        return f"The parameter value for {parameter.name} is not a valid step. Min: {low}, step: {limits.step}"
    return ""


def _outside_floats(parameter: Parameter, limits: Any) -> str:
    low, high = sorted((limits.from_value, limits.to_value))
    value = parameter.value
    # The ends count as inside even where a YAML decimal misses them by a rounding error. NaN is never inside.
    if any(math.isclose(value, end, rel_tol=_RELATIVE_TOLERANCE) for end in (low, high)):
        return ""
    if not low < value < high:
        return f"Parameter {parameter.name} out of range Min: {low}, Max: {high}, value: {value}"
    if limits.step:
        nearest = low + round((value - low) / limits.step) * limits.step
        if not math.isclose(nearest, value, rel_tol=_RELATIVE_TOLERANCE):
            return f"The parameter value for {parameter.name} is not close to a valid step. Min: {low}, step: {limits.step}"
    return ""
