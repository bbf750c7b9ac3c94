from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from irevla_ros.core.config import CONFIG_FOLDER, dump_yaml, find_config, load_config, to_dict
from irevla_ros.core.errors import ConfigError


class Method(Enum):
    PPO = "ppo"
    SACFD = "sacfd"


@dataclass(frozen=True)
class Optimiser:
    learning_rate: float = 3e-4
    warmup: int = 10

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ConfigError(f"learning_rate {self.learning_rate}", "must be positive", "try 3e-4")


@dataclass(frozen=True)
class Ppo:
    epochs: int = 4
    clip: float = 0.2


@dataclass(frozen=True)
class Sac:
    utd: int = 8


@dataclass(frozen=True)
class Run:
    name: str = "demo"
    method: Method = Method.PPO
    device: Literal["cpu", "cuda"] = "cpu"
    shuffle: bool = True
    image: tuple[int, int] = (64, 64)
    tasks: tuple[str, ...] = ("press",)
    folder: Path = Path("runs")
    limit: int | None = None
    weights: Mapping[str, float] = field(default_factory=lambda: {"expert": 1.0, "rl": 2.0})
    optimiser: Optimiser = field(default_factory=lambda: Optimiser(learning_rate=1e-3))
    anchor: Optimiser | None = None
    algorithm: Ppo | Sac = field(default_factory=Ppo)


@dataclass(frozen=True)
class Needy:
    seed: int


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


def test_defaults_without_file_or_overrides() -> None:
    assert load_config(Run) == Run()


def test_file_then_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, """
name: first
method: sacfd
image: [32, 48]
tasks: [press, pick]
folder: elsewhere
optimiser: {warmup: 3}
anchor: {learning_rate: 1e-2}
algorithm: {utd: 2}
weights: {unseen: 1}
""")  # fmt: skip
    run = load_config(Run, path, ["optimiser.warmup=5", "name=12", "shuffle=false", "limit=7", "tasks=[open]"])
    assert run == Run(
        name="12", method=Method.SACFD, shuffle=False, image=(32, 48), tasks=("open",), folder=Path("elsewhere"),
        limit=7, weights={"unseen": 1.0}, optimiser=Optimiser(1e-3, 5), anchor=Optimiser(1e-2), algorithm=Sac(2),
    )  # fmt: skip


def test_nested_default_keeps_what_is_not_given() -> None:
    assert load_config(Run, None, ["optimiser.warmup=1"]).optimiser == Optimiser(learning_rate=1e-3, warmup=1)


def test_override_adds_to_a_default_mapping() -> None:
    assert load_config(Run, None, ["weights.rl=5"]).weights == {"expert": 1.0, "rl": 5.0}


def test_null_clears_an_optional() -> None:
    assert load_config(Run, None, ["limit=3", "limit=null"]).limit is None


def test_empty_file_is_the_default(tmp_path: Path) -> None:
    assert load_config(Run, write(tmp_path, "# nothing\n")) == Run()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimiser: {learnin_rate: 1}",
         "{path}: key 'optimiser.learnin_rate': no such key in Optimiser; did you mean 'optimiser.learning_rate'?"),
        ("warmup: 3", "{path}: key 'warmup': no such key in Run; did you mean 'optimiser.warmup' or 'anchor.warmup'?"),
        ("algorithm: {zzz: 3}", "{path}: algorithm = {{'zzz': 3}}: a mapping (Ppo) or a mapping (Sac) is required; "
         "found a mapping"),
        ("shuffle: 1", "{path}: shuffle = 1: true or false (bool) is required; found a whole number (int)"),
        ("limit: many", "{path}: limit = 'many': a whole number (int) is required; found text (str)"),
        ("name: 3", "{path}: name = 3: text (str) is required; found a whole number (int)"),
        ("optimiser: {learning_rate: fast}",
         "{path}: optimiser.learning_rate = 'fast': a number (float) is required; found text (str)"),
        ("optimiser: 3", "{path}: optimiser = 3: a mapping (Optimiser) is required; found a whole number (int)"),
        ("method: pppo", "{path}: method = 'pppo': one of 'ppo', 'sacfd' is required; found text (str); "
         "did you mean 'ppo'?"),
        ("device: gpu", "{path}: device = 'gpu': one of 'cpu', 'cuda' is required; found text (str); "
         "did you mean 'cpu'?"),
        ("image: [1, 2, 3]", "{path}: image = [1, 2, 3]: a list of exactly 2: a whole number (int), "
         "a whole number (int) is required; found a list"),
        ("tasks: [press, 3]", "{path}: tasks[1] = 3: text (str) is required; found a whole number (int)"),
        ("weights: {rl: x}", "{path}: weights.rl = 'x': a number (float) is required; found text (str)"),
        ("optimiser: {learning_rate: -1}", "{path}: optimiser: learning_rate -1.0: must be positive; try 3e-4"),
        ("name: a\nname: b", "{path}: is not valid YAML (line 2: key 'name' is given twice); correct that line"),
        ("a: [", "{path}: is not valid YAML (line 1: "),
        ("- 1", "{path} holds a list: a configuration is a mapping; write `key: value` lines"),
    ],
)  # fmt: skip
def test_bad_files_name_file_key_value_and_rule(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        load_config(Run, path)
    assert str(error.value).startswith(message.format(path=path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("shuffle", "override 'shuffle': an override is key=value with a dotted key; write for example ppo.epochs=4"),
        ("nam=x", "override 'nam=x': key 'nam': no such key in Run; did you mean 'name'?"),
        ("image=[1, a]", "override 'image=[1, a]': image[1] = 'a': a whole number (int) is required; found text (str)"),
        ("device=tpu", "override 'device=tpu': device = 'tpu': one of 'cpu', 'cuda' is required; found text (str); "
         "did you mean 'cpu'?"),
        ("optimiser.learning_rate=0",
         "command line with override 'optimiser.learning_rate=0': optimiser: learning_rate 0.0: must be positive; "
         "try 3e-4"),
    ],
)  # fmt: skip
def test_bad_overrides_are_quoted(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(Run, None, [override])
    assert str(error.value) == message


def test_required_key_missing() -> None:
    with pytest.raises(ConfigError, match=r"^command line: key 'seed': is required and missing; add it, as a whole"):
        load_config(Needy)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read \(No such file or directory\); check the path"):
        load_config(Run, tmp_path / "none.yaml")


def test_binary_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not UTF-8 text; save it as UTF-8"):
        load_config(Run, path)


def test_find_config_by_path_and_by_shipped_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "suites").mkdir()
    shipped = write(tmp_path / "suites", "")
    monkeypatch.setattr("irevla_ros.core.config.CONFIG_FOLDER", tmp_path)
    assert find_config(shipped) == shipped
    assert find_config("run", "suites") == shipped
    with pytest.raises(ConfigError, match=r"^suite 'ran': no such suite; did you mean 'run'\?$"):
        find_config("ran", "suites")
    with pytest.raises(ConfigError, match=r"^configuration 'my/run\.yaml': no such file; check the path"):
        find_config("my/run.yaml", "suites")


def test_shipped_files_are_valid_yaml() -> None:
    for path in CONFIG_FOLDER.rglob("*.yaml"):
        assert isinstance(yaml.safe_load(path.read_text()), dict), path


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
number = st.floats(allow_nan=False, allow_infinity=False)
optimisers = st.builds(Optimiser, number.filter(lambda x: x > 0), st.integers())
runs = st.builds(
    Run,
    name=text, method=st.sampled_from(Method), device=st.sampled_from(["cpu", "cuda"]), shuffle=st.booleans(),
    image=st.tuples(st.integers(), st.integers()), tasks=st.lists(text, max_size=3).map(tuple),
    folder=st.sampled_from([Path("runs"), Path("a b/c"), Path("1"), Path("null")]), limit=st.none() | st.integers(),
    weights=st.dictionaries(text, number, max_size=3), optimiser=optimisers, anchor=st.none() | optimisers,
    algorithm=st.builds(Ppo, st.integers(), number) | st.builds(Sac, st.integers()),
)  # fmt: skip


@given(runs)
def test_dumped_yaml_loads_to_an_equal_configuration(tmp_path_factory: pytest.TempPathFactory, run: Run) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.yaml"
    path.write_text(dump_yaml(run), encoding="utf-8")
    assert load_config(Run, path) == run


@given(runs)
def test_overrides_alone_reach_every_scalar(run: Run) -> None:
    tree = to_dict(run)
    overrides = [f"{key}={yaml.safe_dump(tree[key], default_flow_style=True, width=9999)}"
                 for key in ("shuffle", "image", "limit", "method", "device")]  # fmt: skip
    overrides += [f"optimiser.{key}={value}" for key, value in tree["optimiser"].items()]
    loaded = load_config(Run, None, [o.replace("\n...\n", "") for o in overrides])
    fields = ("shuffle", "image", "limit", "method", "device", "optimiser")
    assert [getattr(loaded, f) for f in fields] == [getattr(run, f) for f in fields]
