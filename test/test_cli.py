from __future__ import annotations

import argparse
import os
import subprocess
import sys
import types
from collections import namedtuple
from pathlib import Path

import pytest

from irevla_ros import __version__
from irevla_ros.cli import doctor
from irevla_ros.cli.main import COMMANDS, main
from irevla_ros.core.errors import DataError, Interrupted


def irevla(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "irevla_ros", *arguments], capture_output=True, text=True)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A stand-in for a subcommand's module, reached as `irevla demo`."""
    module = types.ModuleType("irevla_ros.cli.demo", "Show it.\n\nexamples:\n  irevla demo")
    module.add_arguments = lambda parser: parser.add_argument("--n", type=int, default=0)
    module.run = lambda args: args.n
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def raising(error: BaseException) -> object:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


def test_help_names_every_subcommand_and_examples() -> None:
    result = irevla("--help")
    assert result.returncode == 0
    assert all(f"  {name} " in result.stdout for name in COMMANDS)
    assert "examples:" in result.stdout


def test_no_argument_is_help() -> None:
    assert irevla().stdout == irevla("--help").stdout


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"irevla {__version__}\n"


def test_unknown_subcommand_names_the_nearest() -> None:
    result = irevla("evla")
    assert result.returncode == 2
    assert result.stderr == "irevla: error: subcommand 'evla': no such subcommand; did you mean 'eval'?\n"


def test_exit_code_is_that_of_the_subcommand(command: types.ModuleType) -> None:
    assert main(["demo"]) == 0
    assert main(["demo", "--n", "1"]) == 1


def test_help_of_a_subcommand_is_its_docstring(command: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["demo", "--help"])
    assert "Show it.\n\nexamples:\n  irevla demo\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("episode 'a'", "checksum differs", "record it again"), 2,
         "irevla: error: episode 'a': checksum differs; record it again"),
        (Interrupted("irevla train --resume runs/x"), 130,
         "irevla: stopped; resume with: irevla train --resume runs/x"),
        (KeyboardInterrupt(), 130, "irevla: stopped"),
        (ModuleNotFoundError("No module named 'pybullet'", name="pybullet"), 2,
         "irevla: error: module 'pybullet' is not installed: `irevla demo` needs it; pip install 'irevla_ros[sim]'"),
    ],
)  # fmt: skip
def test_what_stops_a_command_is_one_line(
    command: types.ModuleType, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    command.run = raising(error)
    assert main(["demo"]) == code
    assert capsys.readouterr().err == line + "\n"


def test_a_bug_keeps_its_traceback(command: types.ModuleType) -> None:
    command.run = raising(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        main(["demo"])


def test_closed_pipe_is_not_an_error() -> None:
    script = (
        "import sys, types\n"
        "from irevla_ros.cli.main import main\n"
        "m = types.ModuleType('irevla_ros.cli.demo')\n"
        "m.add_arguments = lambda parser: None\n"
        "m.run = lambda args: [print('x' * 1000) for _ in range(1000)] and 0\n"
        "sys.modules[m.__name__] = m\n"
        "sys.exit(main(['demo']))"
    )
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run([sys.executable, "-c", script], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (result.returncode, result.stderr) == (141, "")


def test_interrupted_survives_a_process_boundary() -> None:
    kind, arguments = Interrupted("irevla demo").__reduce__()
    assert str(kind(*arguments)) == "stopped; resume with: irevla demo"


def test_doctor_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--runs", str(tmp_path / "none" / "yet")])
    lines = capsys.readouterr().out.splitlines()
    assert code == 0, lines
    assert lines[0] == f"irevla {__version__}"
    assert any(line.startswith("ok    torch") for line in lines)
    assert any("steps/s in one process" in line for line in lines)
    assert lines[-1].endswith(" 0 failed")


@pytest.mark.parametrize(("free", "status"), [(0.5, "FAIL"), (2.0, "warn"), (50.0, "ok")])
def test_doctor_judges_disk_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, status: str
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: usage(0, 0, free * 1e9))
    [check] = doctor.check_disk(tmp_path)
    assert check.status.value == status
    assert bool(check.remedy) == (status != "ok")


def test_doctor_says_how_to_install_what_is_missing() -> None:
    check = doctor.check_import("no-such-library", "no_such_library", doctor.Status.FAIL, "pip install no-such-library")
    assert check == doctor.Check("no-such-library", doctor.Status.FAIL, "No module named 'no_such_library'",
                                 "pip install no-such-library")  # fmt: skip
