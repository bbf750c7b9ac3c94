from __future__ import annotations

import cv2
import pytest

from irevla_ros.cli.main import main
from irevla_ros.core.types import Mode, Outcome
from irevla_ros.data.sheet import MARGIN, TILE
from irevla_ros.data.spool import Spool
from spool_toys import toy_episode


@pytest.fixture
def spool(tmp_path):
    spool = Spool(tmp_path / "spool")
    spool.write_episode(toy_episode("e1", steps=25, cameras={"front": (64, 64), "wrist": (32, 64)}))
    spool.write_episode(toy_episode("e2", task="push-left", mode=Mode.DEMO, outcome=Outcome.FAILURE))
    return spool


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def test_list(spool, capsys):
    spool.label("e2", Outcome.SUCCESS, "ada")
    assert main(["episodes", "list", str(spool.root)]) == 0
    header, first, second, total = capsys.readouterr().out.splitlines()
    assert header.split() == ["episode", "mode", "steps", "outcome", "ended", "by", "task", "run", "instruction"]
    assert first.split()[:7] == ["e1", "train", "25", "success", "success", "press-red", "run1"]
    assert second.split()[:4] == ["e2", "demo", "5", "success*"]
    assert first.index("press the red") == second.index("press the red") == header.index("instruction")
    assert total.startswith("2 of 2 episodes, 30 steps, ")
    assert main(["episodes", "list", str(spool.root), "--task", "push-left", "--outcome", "failure"]) == 0
    assert "0 of 2 episodes" in capsys.readouterr().out


def test_list_hides_the_discarded_and_tells_the_damaged(spool, capsys):
    spool.label("e2", None, "ada", discard=True)
    main(["episodes", "list", str(spool.root)])
    assert "e2" not in capsys.readouterr().out
    flip(spool.root / "e1.episode.safetensors", 20)
    assert main(["episodes", "list", str(spool.root), "--discarded"]) == 1
    captured = capsys.readouterr()
    assert "(discarded)" in captured.out
    assert "1 of 1 episodes, 5 steps, 0.0 MB; 1 damaged" in captured.out
    assert "e1.episode.safetensors: header checksum differs" in captured.err


def test_show(spool, capsys, tmp_path):
    spool.label("e1", Outcome.FAILURE, "ada", note="too late")
    out = tmp_path / "sheet.png"
    assert main(["episodes", "show", str(spool.root), "e1", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "outcome               failure\n" in printed
    assert "steps                 25, 2.50 s" in printed
    assert "cameras               front 64x64, wrist 64x32" in printed
    assert "label 1               failure by ada too late" in printed
    sheet = cv2.imread(str(out))[..., ::-1]
    assert sheet.shape[1] == 8 * TILE + 2 * MARGIN
    # The first picture of the front camera, doubled in size, stands below title and caption.
    first = toy_episode("e1", steps=25, cameras={"front": (64, 64), "wrist": (32, 64)}).images["front"][0]
    assert (sheet[52 + 26 + 40 : 52 + 26 + TILE : 2, MARGIN : MARGIN + TILE : 2] == first[20:]).all()


def test_show_what_is_not_there(spool, capsys):
    assert main(["episodes", "show", str(spool.root), "e9"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("irevla: error: episode 'e9': there is no sealed episode of that id in ")
    assert message.endswith("; see irevla episodes list\n")
    assert message.count("\n") == 1


def test_verify(spool, capsys):
    assert main(["episodes", "verify", str(spool.root)]) == 0
    assert capsys.readouterr().out == "2 of 2 episodes sound, 0 damaged\n"
    flip(spool.root / "e2.episode.safetensors", -80)
    spool.label("e1", Outcome.FAILURE, "ada")
    flip(spool.root / "e1.labels.jsonl", 4)
    assert main(["episodes", "verify", str(spool.root)]) == 1
    first, second, total = capsys.readouterr().out.splitlines()
    assert "e1.labels.jsonl line 1: its checksum or revision differs: label lines are never edited" in first
    assert "e2.episode.safetensors: content checksum differs: a sealed file matches its sha256" in second
    assert total == "0 of 2 episodes sound, 2 damaged"


def test_help_teaches(capsys):
    for arguments, words in (
        (["--help"], "examples"),
        (["verify", "--help"], "exit code 1"),
        (["list", "-h"], "--task"),
    ):
        with pytest.raises(SystemExit):
            main(["episodes", *arguments])
        assert words in capsys.readouterr().out


def test_of_a_run_the_practice_is_meant(tmp_path, capsys):
    Spool(tmp_path / "run" / "practice").write_episode(toy_episode("e1"))
    Spool(tmp_path / "run" / "expert")
    assert main(["episodes", "list", str(tmp_path / "run")]) == 0
    captured = capsys.readouterr()
    assert "1 of 1 episodes" in captured.out
    assert captured.err == f"{tmp_path / 'run'} is a run: its episodes of practice (its demonstrations are in expert/)\n"
