"""Errors for people: each names the value, the rule that it breaks and the remedy, on one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class IrevlaError(Exception):
    """Base of every error that a user can cause and mend; the command line prints it without a traceback.

    ``value`` is what was found, ``rule`` what is required, ``remedy`` what to do about it.
    """

    def __init__(self, value: str, rule: str, remedy: str) -> None:
        super().__init__(f"{value}: {rule}; {remedy}")
        self.value = value
        self.rule = rule
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[IrevlaError], tuple[str, str, str]]:
        # The default rebuilds from the joined message, which breaks when an error crosses a process boundary.
        return type(self), (self.value, self.rule, self.remedy)


class ConfigError(IrevlaError):
    """A configuration file, override or name is wrong."""


class BusyError(IrevlaError):
    """Another process holds what is asked for; it may let go of it."""


class DataError(IrevlaError):
    """An episode or dataset is missing, damaged or does not fit."""


class CheckpointError(IrevlaError):
    """A checkpoint is missing, damaged, unsafe or belongs to another backbone."""


class SimulationError(IrevlaError):
    """The simulated world cannot do what was asked."""


def unknown_name(kind: str, name: str, known: Iterable[str], where: str = "") -> ConfigError:
    """The error for a name that is not in a registry, with the nearest names as the remedy.

    ``where`` says which registry, such as "of suite 'demo'".
    """
    options = sorted(known)
    near = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    remedy = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else f"choose one of: {', '.join(options)}"
    return ConfigError(f"{kind} {name!r}{where and ' ' + where}", f"no such {kind}", remedy)


class Interrupted(Exception):
    """A job was stopped on purpose and left everything that is needed to go on: not an error.

    ``resume_command`` is what the user types to continue.
    """

    def __init__(self, resume_command: str) -> None:
        super().__init__(f"stopped; resume with: {resume_command}")
        self.resume_command = resume_command

    def __reduce__(self) -> tuple[type[Interrupted], tuple[str]]:
        return type(self), (self.resume_command,)
