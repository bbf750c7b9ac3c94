from __future__ import annotations

import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from irevla_ros.cli.main import main
from irevla_ros.core.errors import DataError
from irevla_ros.core.types import Mode, Outcome
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.sheet import MARGIN, TILE, WIDTH
from irevla_ros.data.spool import Spool
from irevla_ros.sim.env import PandaEnv
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
    for verb, more in (("list", []), ("stats", []), ("export", [str(spool.root / "out"), "--format", "mcap"])):
        assert main(["episodes", verb, str(spool.root), *more, "--task", "pres-red"]) == 2
        assert "task 'pres-red' of these episodes: no such task; did you mean 'press-red'?" in capsys.readouterr().err


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
    assert sheet.shape[1] == WIDTH
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


def run(capsys, *arguments):
    """Exit code and lines of ``irevla episodes``."""
    code = main(["episodes", *map(str, arguments)])
    return code, capsys.readouterr().out.splitlines()


def test_relabel_is_a_revision(spool, capsys):
    sealed = (spool.root / "e1.episode.safetensors").read_bytes()
    outcome = ("relabel", spool.root, "e1", "e2", "--who", "ada", "--outcome")
    assert run(capsys, *outcome, "failure", "--note", "fell") == (
        0, ["e1: label 1, failure by ada fell", "e2: label 1, failure by ada fell"],
    )  # fmt: skip
    assert run(capsys, "relabel", spool.root, "e1", "--discard", "--who", "bob") == (0, ["e1: label 2, discarded by bob"])
    assert run(capsys, *outcome, "success")[1] == ["e1: label 3, discarded, success by ada", "e2: label 2, success by ada"]
    assert run(capsys, "relabel", spool.root, "e1", "--restore", "--who", "ada") == (0, ["e1: label 4, as before by ada"])
    record = SpoolReader(spool.root).record("e1")
    assert (record.meta.outcome, record.discarded, record.label_revision) == (Outcome.SUCCESS, False, 4)
    assert (spool.root / "e1.episode.safetensors").read_bytes() == sealed
    assert main(["episodes", "relabel", str(spool.root), "e2", "e9", "--discard"]) == 2
    assert SpoolReader(spool.root).record("e2").label_revision == 2  # one that is absent: none is changed


def test_trim_leaves_out_the_ends_of_what_is_read(spool, capsys, tmp_path):
    sealed = (spool.root / "e1.episode.safetensors").read_bytes()
    fingerprint = "ab" * 8
    spool.write_latents("e1", fingerprint, np.arange(26 * 2, dtype=np.float16).reshape(26, 1, 2))
    assert run(capsys, "trim", spool.root, "e1", "--keep", "3:20", "--who", "ada")[1] == ["e1: label 1, 17 of 25 steps count"]
    whole = toy_episode("e1", steps=25, cameras={"front": (64, 64), "wrist": (32, 64)})
    reader = SpoolReader(spool.root)
    found = reader.read("e1", fingerprint=fingerprint)
    assert (found.executed == whole.executed[3:20]).all()
    assert (found.images["wrist"] == whole.images["wrist"][3:21]).all()
    assert found.latents[:, 0, 0].tolist() == list(range(6, 42, 2))
    assert found.reward.tolist() == [*whole.reward[3:19], whole.reward[24]]
    assert found.terminated.tolist() == [False] * 16 + [True]
    (window,) = list(reader.iter_windows(10, 20, [reader.record("e1")], latents=False))
    assert (window.episode.proprio == whole.proprio[3:14]).all()
    assert "17 of 25" in run(capsys, "list", spool.root)[1][1]
    assert len(reader.read("e1", trimmed=False)) == 25
    assert run(capsys, "trim", spool.root, "e1", "--keep", ":")[1] == ["e1: label 2, 25 of 25 steps count"]
    assert len(reader.read("e1")) == 25
    assert (spool.root / "e1.episode.safetensors").read_bytes() == sealed
    for keep, message in (("9", "two step numbers with a colon"), ("5:5", "at least one stays"), ("0:26", "it has 25")):
        assert main(["episodes", "trim", str(spool.root), "e1", "--keep", keep]) == 2
        assert message in capsys.readouterr().err


def test_stats(spool, capsys):
    spool.label("e2", Outcome.SUCCESS, "ada", keep=(0, 3))
    code, lines = run(capsys, "stats", spool.root)
    said = dict(re.split(" {2,}", line, maxsplit=1) for line in lines)
    assert code == 0
    assert said["episodes"].startswith("2, 28 steps, 0.0 min, ")
    assert said["steps an episode"] == "3 to 25, median 14"
    assert said["labels"] == "on 1 episodes; 1 trimmed, 0 discarded"
    assert said["images"] == "front 64x64 png: 1, wrist 64x32 png: 1, front 12x8 png: 1"
    assert said["demo push-left"] == "1 episodes, success 1.00 of 1"
    assert said["train press-red"] == "1 episodes, success 1.00 of 1"
    assert said["instruction"] == "'press the red button': 2"
    assert len({line.index(said[re.split(" {2,}", line)[0]]) for line in lines}) == 1


def test_a_film_shows_every_observation(spool, capsys, tmp_path):
    out = tmp_path / "film.webp"
    assert run(capsys, "show", spool.root, "e2", "--out", out)[0] == 0
    with Image.open(out) as film:
        assert (film.format, film.n_frames) == ("WEBP", 6)
    assert main(["episodes", "show", str(spool.root), "e2", "--out", "x.gif"]) == 2
    assert "a picture is a .png, a film a .webp" in capsys.readouterr().err


def test_verify_finds_every_flipped_byte(tmp_path):
    spool = Spool(tmp_path)
    spool.write_episode(toy_episode("e1", 1, cameras={"front": (4, 4)}, latents=True))
    spool.write_latents("e1", "ab" * 8, np.zeros((2, 1, 2), np.float16))
    for _ in range(2):
        spool.label("e1", Outcome.FAILURE, "ada", note='"}', keep=(0, 1))
    reader = SpoolReader(tmp_path)
    reader.verify("e1")
    rng = np.random.default_rng(0)
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        for place in range(len(content)):
            changed = bytearray(content)
            changed[place] ^= int(rng.integers(1, 256))
            path.write_bytes(changed)
            with pytest.raises(DataError):
                reader.verify("e1")
        path.write_bytes(content)
    reader.verify("e1")


def test_a_label_that_a_crash_cut_off_is_no_damage(tmp_path):
    spool = Spool(tmp_path)
    spool.write_episode(toy_episode("e1", 1))
    spool.label("e1", Outcome.FAILURE, "ada", note='"}')
    path = tmp_path / "e1.labels.jsonl"
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert SpoolReader(tmp_path).record("e1").torn_label_bytes == length


def test_replay_of_what_the_simulator_made_is_the_same_to_the_bit(tmp_path, capsys):
    pytest.importorskip("pybullet")
    spool, env = Spool(tmp_path), PandaEnv(task="press-red")
    observed, _ = env.reset(seed=5)
    seen, script, rows = [env.observation(observed)], env.expert(), []
    success = False
    while not success:
        rows.append(np.clip(script.act(), -1, 1).astype(np.float32))
        observed, _, _, _, info = env.step(rows[-1])
        seen.append(env.observation(observed))
        success = info["success"]
    env.close()
    toy, actions = toy_episode("sim", len(rows), 5, cameras={}), np.stack(rows)
    spool.write_episode(replace(
        toy, images={"front": np.stack([one.images["front"] for one in seen])}, proprio=np.stack([one.proprio for one in seen]),
        proposed=actions, executed=actions, commanded=actions,
    ))  # fmt: skip
    code, lines = run(capsys, "replay", tmp_path, "sim")
    assert code == 0
    assert lines[0] == f"{len(rows)} of {len(rows)} steps of press-red, seed 5, suite demo"
    assert lines[1:] == [
        "position   off by at most 0 mm, at the end 0", "gripper    off by at most 0 mm, at the end 0",
        "images     off by at most 0 of 255, at the end 0", "outcome    success, recorded success",
    ]  # fmt: skip
    spool.write_episode(replace(toy_episode("other", len(rows), 6, cameras={"front": (64, 64)}), proprio=toy.proprio))
    code, lines = run(capsys, "replay", tmp_path, "other")
    assert "off by at most 0 " not in lines[1]
    spool.write_episode(toy_episode("unknown", task="fold-towel", cameras={"front": (64, 64)}))
    assert main(["episodes", "replay", str(tmp_path), "unknown"]) == 2
    assert "task 'fold-towel' of the shipped suites (--suite)" in capsys.readouterr().err
