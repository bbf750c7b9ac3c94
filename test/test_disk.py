"""Whole writes, with real kills, a really full disk and real rivals."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from irevla_ros.disk.files import lock_folder, write_whole

ROOT = Path(__file__).parent.parent
OLD, NEW = b"old" * 1000, b"new, and longer" * 1000


def python(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)], cwd=ROOT, text=True,
                          capture_output=True, timeout=120)  # fmt: skip


def test_a_write_is_synced_before_it_gets_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(fd: int) -> None:
        calls.append(("fsync", Path(os.readlink(f"/proc/self/fd/{fd}")).name))
        fsync(fd)

    def noted_replace(old: Path, new: Path) -> None:
        calls.append(("replace", Path(new).name))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    write_whole(tmp_path / "a.json", NEW)
    assert calls == [("fsync", ".a.json.tmp"), ("replace", "a.json"), ("fsync", tmp_path.name)]
    assert (tmp_path / "a.json").read_bytes() == NEW


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from irevla_ros.disk.files import write_whole
    left = int(sys.argv[2])

    def dying(call):
        def wrapped(*args):
            global left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args)
        return wrapped

    for name in ("ftruncate", "write", "fsync", "replace"):
        setattr(os, name, dying(getattr(os, name)))
    write_whole(Path(sys.argv[1]), b"new, and longer" * 1000)
"""


@pytest.mark.parametrize("call", range(1, 7))
def test_kill_9_leaves_the_old_or_the_new_and_the_next_write_clears_up(tmp_path: Path, call: int) -> None:
    path = tmp_path / "a.json"
    write_whole(path, OLD)
    code = python(KILLED, path, call).returncode
    assert code == (-9 if call <= 5 else 0)  # truncate, write, sync, replace, sync of the folder
    assert path.read_bytes() == (NEW if call >= 5 else OLD)
    write_whole(path, b"third")
    assert path.read_bytes() == b"third"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_whole(path, OLD)
    script = """
        import resource, signal, sys
        from pathlib import Path
        from irevla_ros.disk.files import write_whole
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            write_whole(Path(sys.argv[1]), b"x" * 100_000)
        except OSError as error:
            print(error.strerror)
    """
    assert python(script, path).stdout == "File too large\n"
    assert path.read_bytes() == OLD
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_rivals_take_turns_and_a_reader_never_sees_half(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    contents = [bytes([65 + rival]) * (20_000 * (rival + 1)) for rival in range(3)]
    script = """
        import sys
        from pathlib import Path
        from irevla_ros.disk.files import write_whole
        rival = int(sys.argv[2])
        for _ in range(60):
            write_whole(Path(sys.argv[1]), bytes([65 + rival]) * (20_000 * (rival + 1)))
    """
    rivals = [subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), str(path), str(rival)], cwd=ROOT)
              for rival in range(3)]  # fmt: skip
    while any(rival.poll() is None for rival in rivals):
        if path.exists():
            assert path.read_bytes() in contents
    assert [rival.returncode for rival in rivals] == [0, 0, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_has_one_holder(tmp_path: Path) -> None:
    first = lock_folder(tmp_path)
    assert first is not None
    assert lock_folder(tmp_path) is None
    os.close(first)
    again = lock_folder(tmp_path)
    assert again is not None
    os.close(again)
    assert lock_folder(tmp_path / "gone") is None
