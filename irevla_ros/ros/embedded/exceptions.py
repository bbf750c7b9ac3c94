"""rclpy's exceptions, by rclpy's names, with messages that name the value, the rule and the remedy."""

from __future__ import annotations

from irevla_ros.core.errors import IrevlaError


class ExternalShutdownException(Exception):
    """The context was shut down from outside (a signal) while something was spinning."""

    def __init__(self) -> None:
        super().__init__("context has been shut down")


class NotInitializedException(IrevlaError):
    """``init`` was not called, or ``shutdown`` was."""


class NameValidationException(IrevlaError, ValueError):
    """A node name, namespace, topic or service name that ROS does not allow."""


class InvalidTopicNameException(NameValidationException):
    """A topic name that ROS does not allow."""


class InvalidServiceNameException(NameValidationException):
    """A service name that ROS does not allow."""


class InvalidNamespaceException(NameValidationException):
    """A namespace that ROS does not allow."""


class InvalidNodeNameException(NameValidationException):
    """A node name that ROS does not allow."""


class ParameterException(IrevlaError):
    """Base of the parameter errors."""


class ParameterNotDeclaredException(ParameterException):
    """A parameter is read or set that the node has not declared."""


class ParameterAlreadyDeclaredException(ParameterException):
    """A parameter is declared twice."""


class InvalidParameterException(ParameterException):
    """A parameter's name is not allowed."""


class InvalidParameterTypeException(ParameterException):
    """A value, often one from the command line or a file, is not of the parameter's type."""


class InvalidParameterValueException(ParameterException):
    """A value is outside the parameter's range or was rejected by the node."""


class ParameterUninitializedException(ParameterException):
    """A parameter was declared with a type only and has no value yet."""
