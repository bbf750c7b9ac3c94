"""Episodes to LeRobotDataset v3 and rosbag2 MCAP and back; what survives kill -9 of either."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from irevla_ros.cli.main import main
from irevla_ros.core.errors import DataError
from irevla_ros.core.types import Mode, Outcome
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.spool import Spool
from spool_toys import same_columns, toy_episode

pytest.importorskip("rosbags", reason="pip install 'irevla_ros[mcap]'")
from irevla_ros.exchange.bag import STORE, export_bags, open_bag, read_bag
from irevla_ros.exchange.sealed import Taken, take

LEROBOT = all(map(find_spec, ("pyarrow", "av")))
if LEROBOT:
    import pyarrow.parquet as pq

    from irevla_ros.exchange import lerobot_layout as layout
    from irevla_ros.exchange.lerobot import export_lerobot
    from irevla_ros.exchange.lerobot_import import read_lerobot
needs_lerobot = pytest.mark.skipif(not LEROBOT, reason="pip install 'irevla_ros[lerobot]'")

SIZES = {"front": (16, 16), "wrist": (10, 14)}


def files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.iterdir())}


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Three episodes: one labelled twice, one with latents in it and beside it, one of another task and purpose."""
    spool = Spool(tmp_path / "spool")
    spool.write_episode(toy_episode("e1", 5, 1, cameras=SIZES))
    spool.write_episode(toy_episode("e2", 7, 2, cameras=SIZES, latents=True))
    spool.write_episode(toy_episode("e3", 4, 3, cameras=SIZES, task="push-left", instruction="push left", mode=Mode.DEMO))
    spool.label("e1", Outcome.FAILURE, "ada", note='it "fell"} off')
    spool.label("e1", Outcome.SUCCESS, "bob")
    spool.write_latents("e2", "ab" * 32, toy_episode("e2", 7, 5, latents=True).latents)  # type: ignore[arg-type]
    return spool


def test_bags_bring_back_every_byte(spool: Spool, tmp_path: Path) -> None:
    spool.label("e3", None, "ada", keep=(1, 3))
    reader = SpoolReader(spool.root)
    assert list(export_bags(reader, reader.episodes(), tmp_path / "bags")) == ["e1", "e2", "e3"]
    other = Spool(tmp_path / "other")
    for name in ("e1", "e2", "e3"):
        assert take(other, read_bag(tmp_path / "bags" / name)) is Taken.NEW
        assert take(other, read_bag(tmp_path / "bags" / name)) is Taken.THERE
    assert files(other.root) == files(spool.root)


def test_a_bag_has_standard_types_and_the_stamps_of_the_recording(spool: Spool, tmp_path: Path) -> None:
    reader, episode = SpoolReader(spool.root), toy_episode("e1", 5, 1, cameras=SIZES)
    list(export_bags(reader, [reader.record("e1")], tmp_path / "bags"))
    with open_bag(tmp_path / "bags" / "e1") as bag:
        assert {c.msgtype.split("/")[0] for c in bag.connections} == {"std_msgs", "sensor_msgs"}
        found = [(c.topic, stamp, STORE.deserialize_cdr(data, c.msgtype)) for c, stamp, data in bag.messages()]
    actions = [(stamp, message) for topic, stamp, message in found if topic == "/action/executed"]
    assert [stamp for stamp, _ in actions] == episode.stamps_ns[:-1].tolist()
    assert actions[2][1].name == ["dx", "dy", "dz", "drz", "gripper"]
    assert actions[2][1].position.tolist() == episode.executed[2].astype(float).tolist()
    assert actions[2][1].header.stamp.nanosec == 200_000_007
    frames = [message for topic, _, message in found if topic == "/camera/wrist/image_raw/compressed"]
    assert len(frames) == 6
    assert frames[0].format == "png"
    assert frames[0].data[:4].tobytes() == b"\x89PNG"


@needs_lerobot
def test_a_dataset_without_loss_brings_back_every_byte(spool: Spool, tmp_path: Path) -> None:
    reader, other = SpoolReader(spool.root), Spool(tmp_path / "other")
    assert list(export_lerobot(reader, reader.episodes(), tmp_path / "set", lossless=True)) == ["e1", "e2", "e3"]
    assert [take(other, parcel) for parcel in read_lerobot(tmp_path / "set")] == [Taken.NEW] * 3
    assert files(other.root) == files(spool.root)
    assert [take(other, parcel) for parcel in read_lerobot(tmp_path / "set")] == [Taken.THERE] * 3


@needs_lerobot
def test_a_dataset_with_loss_changes_pixels_alone(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)  # noise is not what video is for
    episode = toy_episode("e1", 5, 1, cameras={"front": (32, 32)})
    episode.images["front"][:] = ramp
    spool, other = Spool(tmp_path / "spool"), Spool(tmp_path / "other")
    spool.write_episode(episode)
    reader = SpoolReader(spool.root)
    list(export_lerobot(reader, reader.episodes(), tmp_path / "set"))
    for _ in range(2):
        (parcel,) = read_lerobot(tmp_path / "set")
        take(other, parcel)
    found = SpoolReader(other.root).read("e1")
    same_columns(found, episode, ignore=("images.front",))
    assert found.meta == episode.meta
    difference = np.abs(found.images["front"].astype(int) - ramp)
    assert 0 < difference[:-1].mean() < 6
    assert not difference[-1].any()  # the last observation lies beside the video
    assert take(spool, parcel) is Taken.THERE  # the original is not replaced


@needs_lerobot
def test_a_trimmed_episode_goes_out_as_it_counts(spool: Spool, tmp_path: Path) -> None:
    spool.label("e2", None, "ada", keep=(2, 5))
    reader, other = SpoolReader(spool.root), Spool(tmp_path / "other")
    list(export_lerobot(reader, reader.episodes(), tmp_path / "set", lossless=True))
    for parcel in read_lerobot(tmp_path / "set"):
        take(other, parcel)
        assert take(spool, parcel) is Taken.THERE
    taken = SpoolReader(other.root)
    assert (taken.record("e2").steps, taken.record("e2").sealed_steps, taken.record("e2").label_revision) == (3, 3, 1)
    for fingerprint in (None, "ab" * 32):
        same_columns(taken.read("e2", fingerprint=fingerprint), reader.read("e2", fingerprint=fingerprint))


@needs_lerobot
def test_a_dataset_follows_the_published_rules(spool: Spool, tmp_path: Path) -> None:
    root, reader = tmp_path / "set", SpoolReader(spool.root)
    list(export_lerobot(reader, reader.episodes(), root))
    info = json.loads((root / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["splits"]) == ("v3.0", 10, {"train": "0:3"})
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 16, 2)
    rows = pq.read_table(root / info["data_path"].format(chunk_index=0, file_index=0)).to_pydict()
    videos = {name for name, feature in info["features"].items() if feature["dtype"] == "video"}
    assert rows.keys() == info["features"].keys() - videos
    assert rows["index"] == list(range(16))
    assert rows["episode_index"] == [0] * 5 + [1] * 7 + [2] * 4
    assert rows["task_index"] == [0] * 12 + [1] * 4
    np.testing.assert_allclose(rows["timestamp"][5:12], np.arange(7) / 10, atol=1e-7)
    np.testing.assert_array_equal(rows["action"][5:12], toy_episode("e2", 7, 2, cameras=SIZES).executed)
    assert rows["next.done"] == [t in (4, 11, 15) for t in range(16)]
    for name, feature in info["features"].items():
        if name not in videos:
            assert np.array(rows[name]).reshape(16, -1).shape[1] == feature["shape"][0], name
    episodes = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pydict()
    assert (episodes["dataset_from_index"], episodes["dataset_to_index"]) == ([0, 5, 12], [5, 12, 16])
    assert (episodes["length"], episodes["tasks"][2]) == ([5, 7, 4], ["push left"])
    assert episodes["irevla/outcome"] == ["success"] * 3
    tasks = pq.read_table(root / "meta/tasks.parquet")
    assert tasks.to_pydict() == {"task_index": [0, 1], "task": ["press the red button", "push left"]}
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    for name in videos:
        assert (root / info["video_path"].format(video_key=name, chunk_index=0, file_index=0)).is_file()
        assert episodes[f"videos/{name}/from_timestamp"] == [0, 0.5, 1.2]
        assert episodes[f"videos/{name}/to_timestamp"] == [0.5, 1.2, 1.6]
    stats = json.loads((root / "meta/stats.json").read_text())
    assert stats.keys() == info["features"].keys()
    np.testing.assert_allclose(stats["action"]["std"], np.std(rows["action"], axis=0), rtol=1e-6)
    np.testing.assert_allclose(stats["next.reward"]["mean"], np.mean(rows["next.reward"]), rtol=1e-6)
    assert stats["log_prob"]["max"] == [np.nanmax(rows["log_prob"])]
    assert np.shape(stats["observation.images.front"]["mean"]) == (3, 1, 1)
    assert episodes["stats/action/count"] == [[5], [7], [4]]


@needs_lerobot
def test_files_that_are_full_are_followed_by_others(spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DATA_MB": 1e-6, "VIDEO_MB": 1e-6, "FILES_PER_CHUNK": 2}.items():
        monkeypatch.setattr(layout, name, value)
    reader, other = SpoolReader(spool.root), Spool(tmp_path / "other")
    list(export_lerobot(reader, reader.episodes(), tmp_path / "set", lossless=True))
    assert sorted(str(path.relative_to(tmp_path / "set/data")) for path in (tmp_path / "set/data").rglob("*.parquet")) == [
        "chunk-000/file-000.parquet", "chunk-000/file-001.parquet", "chunk-001/file-000.parquet",
    ]  # fmt: skip
    for parcel in read_lerobot(tmp_path / "set"):
        take(other, parcel)
    assert files(other.root) == files(spool.root)


@needs_lerobot
def test_what_does_not_fit_is_refused(spool: Spool, tmp_path: Path) -> None:
    reader = SpoolReader(spool.root)
    spool.write_episode(toy_episode("e4", cameras={"front": (16, 16)}))
    with pytest.raises(DataError, match="'e4' has .*a dataset has one shape.*--task"):
        list(export_lerobot(reader, reader.episodes(), tmp_path / "set"))
    assert not any(path.name.startswith((".set", "set")) for path in tmp_path.iterdir())
    spool.write_episode(toy_episode("e5", control_rate_hz=9.5))
    with pytest.raises(DataError, match=r"'e5' at 9\.5 Hz: LeRobot's fps is a whole number; export it as mcap"):
        list(export_lerobot(reader, [reader.record("e5")], tmp_path / "set"))
    (tmp_path / "set").mkdir()
    with pytest.raises(DataError, match="set: it exists"):
        list(export_bags(reader, reader.episodes(), tmp_path / "set"))


def test_another_recording_or_other_labels_are_not_mixed(spool: Spool, tmp_path: Path) -> None:
    reader, other = SpoolReader(spool.root), Spool(tmp_path / "other")
    list(export_bags(reader, reader.episodes(), tmp_path / "bags"))
    other.write_episode(toy_episode("e1", 5, 9))
    with pytest.raises(DataError, match="another recording of that id"):
        take(other, read_bag(tmp_path / "bags/e1"))
    take(other, read_bag(tmp_path / "bags/e2"))
    other.label("e2", Outcome.FAILURE, "bob")
    spool.label("e2", Outcome.SUCCESS, "ada")
    list(export_bags(reader, [reader.record("e2")], tmp_path / "more"))
    with pytest.raises(DataError, match=r"e2\.labels\.jsonl: revision 1: it differs"):
        take(other, read_bag(tmp_path / "more/e2"))
    third = Spool(tmp_path / "third")
    take(third, read_bag(tmp_path / "bags/e2"))
    assert take(third, read_bag(tmp_path / "more/e2")) is Taken.LABELLED
    assert SpoolReader(third.root).record("e2").label_revision == 1


@needs_lerobot
def test_damage_of_what_is_imported_is_found(spool: Spool, tmp_path: Path) -> None:
    reader = SpoolReader(spool.root)
    list(export_lerobot(reader, reader.episodes(), tmp_path / "set"))
    path = tmp_path / "set/irevla/e2.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"e2\.safetensors: content checksum differs"):
        list(read_lerobot(tmp_path / "set"))
    (tmp_path / "set/data/chunk-000/file-000.parquet").unlink()
    with pytest.raises(DataError, match="has every file and column"):
        list(read_lerobot(tmp_path / "set"))
    (tmp_path / "foreign/meta").mkdir(parents=True)
    (tmp_path / "foreign/meta/info.json").write_text(json.dumps({"codebase_version": "v3.0"}))
    with pytest.raises(DataError, match="only what irevla exported is imported"):
        list(read_lerobot(tmp_path / "foreign"))


@pytest.mark.parametrize("kind", [pytest.param("lerobot", marks=needs_lerobot), "mcap"])
def test_the_command(kind: str, spool: Spool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    assert main(["episodes", "export", str(spool.root), str(out), "--format", kind, "--mode", "train"]) == 0
    printed = capsys.readouterr().out
    assert f"2 episodes, 12 steps: {out}" in printed
    assert ("nowhere: exact pixels" in printed) == (kind == "lerobot")
    for said in ("2 imported", "2 there already"):
        assert main(["episodes", "import", str(out), str(other)]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == f"2 episodes: {said}"
    assert SpoolReader(other).ids() == ["e1", "e2"]
    assert main(["episodes", "import", str(spool.root), str(other)]) == 2
    assert "a LeRobotDataset has meta/info.json, a bag metadata.yaml" in capsys.readouterr().err


# ---- kill -9 -----------------------------------------------------------------------------------------------------

VICTIM = """
import sys, time
from pathlib import Path
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.spool import Spool
from irevla_ros.exchange.bag import export_bags, read_bag
from irevla_ros.exchange.sealed import take
if sys.argv[2] == "True":
    from irevla_ros.exchange.lerobot import export_lerobot
    from irevla_ros.exchange.lerobot_import import read_lerobot
root, reader = Path(sys.argv[1]), SpoolReader(Path(sys.argv[1]) / "spool")
bags, dataset = root / "bags", root / "set"
def say(*_):
    print("further", flush=True)
while True:
    if not bags.exists():
        list(map(say, export_bags(reader, reader.episodes(), bags)))
    spool = Spool(root / "from-bags")
    for bag in sorted(bags.iterdir()):
        say(take(spool, read_bag(bag)))
    if sys.argv[2] == "True":
        if not dataset.exists():
            list(map(say, export_lerobot(reader, reader.episodes(), dataset, lossless=True)))
        spool = Spool(root / "from-set")
        for parcel in read_lerobot(dataset):
            say(take(spool, parcel))
    for path in filter(Path.exists, (bags, dataset, root / "from-bags", root / "from-set")):
        path.rename(path.with_name(f".gone-{time.monotonic_ns()}"))
"""


def kill_while_exchanging(root: Path, kills: int, rng: random.Random) -> None:
    """Every kill leaves exports whole or absent, and imports that are a subset of the episodes, byte for byte."""
    spool = Spool(root / "spool")
    for k in range(3):
        spool.write_episode(toy_episode(f"e{k}", 5 + k, k, cameras=SIZES, latents=k == 1))
        spool.label(f"e{k}", Outcome.FAILURE, "ada", discard=k == 2)
    spool.write_latents("e1", "ab" * 32, toy_episode("e1", 6, 5, latents=True).latents)  # type: ignore[arg-type]
    wanted = files(spool.root)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
    for _ in range(kills):
        command = [sys.executable, "-c", VICTIM, str(root), str(LEROBOT)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as victim:
            assert victim.stdout is not None
            for _ in range(rng.randrange(1, 12)):
                assert victim.stdout.readline() == b"further\n"
            time.sleep(rng.uniform(0, 0.03))
            victim.send_signal(signal.SIGKILL)
        check_what_is_left(root, wanted)


def check_what_is_left(root: Path, wanted: dict[str, bytes]) -> None:
    whole = {name for name in wanted if name.endswith(".episode.safetensors")}
    for path in root.iterdir():
        if path.name.startswith("bags"):
            assert [read_bag(bag).episode_id for bag in sorted(path.iterdir())] == ["e0", "e1"]
        elif path.name.startswith("set"):
            assert [parcel.episode_id for parcel in read_lerobot(path)] == ["e0", "e1"]
        elif path.name.startswith("from"):
            reader = SpoolReader(path)
            for episode_id in reader.ids():
                reader.verify(episode_id)
                assert reader.record(episode_id).label_revision == 1  # never without its verdicts
            for name in whole & files(path).keys():
                assert files(path)[name] == wanted[name]


def test_ten_kills(tmp_path: Path) -> None:
    kill_while_exchanging(tmp_path, 10, random.Random(0))


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(1, 9))
def test_two_hundred_kills(tmp_path: Path, seed: int) -> None:
    kill_while_exchanging(tmp_path, 25, random.Random(seed))
