"""The `irevla` command: finds the subcommand, runs it, and turns errors into one line and an exit code.

Exit codes: 0 done; 1 the command ran and its answer is no (for example a damaged episode); 2 wrong usage or input;
130 stopped by Ctrl-C. `irevla supervise` has its own: 1 wrong input, 2 a crash.

A subcommand is a module ``irevla_ros.cli.<name>`` with ``add_arguments(parser)`` and ``run(args) -> int``; its
docstring is its help. It is imported only when it is asked for, so that `irevla --help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import shutil
import signal
import sys
import textwrap
from collections.abc import Sequence
from typing import NoReturn

from irevla_ros import __version__
from irevla_ros.core.errors import ConfigError, Interrupted, IrevlaError, unknown_name

COMMANDS = {
    "demo": "watch the whole loop on two tasks: demonstrations, practice, evaluation, report (minutes)",
    "pretrain": "train the small vision-language model on rendered image-text pairs",
    "collect": "collect episodes by hand, by correcting a policy, or of scripted experts",
    "teleop": "calibrate the gamepad or SpaceMouse that drives the arm",
    "sft": "stage 0: clone the demonstrations with the whole VLA",
    "supervise": "run or go on with the supervised job of a manifest",
    "train": "iRe-VLA or one of its baselines on a suite of tasks",
    "eval": "measure the success rate of a checkpoint, with its interval",
    "report": "write the report and plots of a run again, finished or not",
    "up": "start a node graph on this machine: simulated arms, collecting, or a Franka",
    "reward": "train and check a success classifier from judged episodes",
    "episodes": "list, show, check, relabel, trim, replay, export and import recorded episodes",
    "doctor": "check this machine and say what to do about what is missing",
}

EPILOG = """examples:
  irevla doctor                           is everything here that is needed?
  irevla demo                             see the loop work, then open runs/demo/report.html
  irevla train --help                     every subcommand explains itself
"""

# Modules that belong to an extra of the package, and the extra that brings them.
EXTRAS = {"pybullet": "sim", "pybullet_data": "sim", "pybullet_utils": "sim", "rosbags": "mcap",
          "pyarrow": "lerobot", "av": "lerobot"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name) and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except IrevlaError as error:
        return _fail(str(error))
    except Interrupted as stop:
        print(f"irevla: {stop}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("irevla: stopped", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        extra = EXTRAS.get(error.name or "")
        if extra is None:
            raise
        return _fail(f"module {error.name!r} is not installed: `irevla {arguments[0]}` needs it; "
                     f"pip install 'irevla_ros[{extra}]'")  # fmt: skip
    except BrokenPipeError:
        # The reader (`| head`) has gone; keep the interpreter from complaining about it when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


class _Parser(argparse.ArgumentParser):
    """Wrong usage is one line too, and names the help."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(self.prog, message, f"see {self.prog} --help")


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0].startswith("-"):
        parser = _overview()
        parser.parse_args(arguments)  # --help and --version end here
        parser.print_help()
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        raise unknown_name("subcommand", name, COMMANDS)
    module = importlib.import_module(f"irevla_ros.cli.{name}")
    parser = _Parser(
        f"irevla {name}", description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    # The raw formatter keeps the lines of the examples; it would also keep a paragraph on one endless line.
    parser.description, parser.epilog = _wrap(parser.description), _wrap(parser.epilog)
    # Positionals after options, where the command has many of them and no subcommands of its own.
    parse = parser.parse_intermixed_args if getattr(module, "INTERMIXED", False) else parser.parse_args
    args = parse(arguments[1:])
    args.command_line = shlex.join(["irevla", *arguments])  # for commands that are resumed by repeating them
    code: int = module.run(args)
    sys.stdout.flush()  # here, where a closed pipe is still handled
    return code


def _overview() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS)) + 2
    commands = "\n".join(f"  {name:<{width}}{text}" for name, text in COMMANDS.items())
    parser = _Parser(
        "irevla",
        usage="irevla [--help] [--version] <subcommand> ...",
        description=f"A vision-language-action policy that improves by practice.\n\nsubcommands:\n{commands}",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"irevla {__version__}")
    return parser


def _wrap(text: str | None) -> str:
    width = min(100, shutil.get_terminal_size().columns - 2)
    return "\n".join(textwrap.fill(line, width) if len(line) > width else line for line in (text or "").splitlines())


def _fail(message: str) -> int:
    print(f"irevla: error: {message}", file=sys.stderr)
    return 2
