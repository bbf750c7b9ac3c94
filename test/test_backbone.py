"""The tiny backbones: shapes, invariances, registry, fingerprint, tokenizer, and that they learn from words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from irevla_ros.core.errors import CheckpointError, ConfigError, DataError
from irevla_ros.policy import tiny
from irevla_ros.policy.backbone import TINY, Backbone, build_backbone
from irevla_ros.policy.head import ActionHead
from irevla_ros.policy.tensor_file import write_tensors
from irevla_ros.policy.tiny import TinyBackbone, TinyLlava, sincos_positions
from irevla_ros.policy.tokenizer import VOCABULARY, WordTokenizer

LAYOUTS = ["tiny-llava", "tiny-instructblip"]
WORDS = ["push the red cube left", "open the drawer", ""]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def pictures(backbone: Backbone, batch: int) -> torch.Tensor:
    return torch.randint(0, 256, (batch, backbone.cameras, 64, 64, 3), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("name", "cameras", "latents"),
    [("tiny-llava", 1, 64), ("tiny-llava", 2, 128), ("tiny-instructblip", 1, 16), ("tiny-instructblip", 3, 16)],
)
def test_latents_have_the_promised_shape_and_every_weight_learns(name: str, cameras: int, latents: int) -> None:
    backbone = build_backbone(name, cameras=cameras)
    encoded = backbone.encode(pictures(backbone, 3), backbone.tokenize(WORDS))
    assert encoded.shape == (3, *backbone.latent_shape) == (3, latents, 64)
    (encoded * torch.randn_like(encoded)).sum().backward()
    idle = [key for key, p in backbone.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


@pytest.mark.parametrize("name", LAYOUTS)
def test_budget_of_weights_and_of_stored_latents(name: str) -> None:
    backbone = build_backbone(name)
    assert sum(p.numel() for p in backbone.parameters()) * 4 < 2_000_000
    m, d = backbone.latent_shape
    assert m * d * 2 <= 64 * 1024


@pytest.mark.parametrize("name", LAYOUTS)
@torch.inference_mode()
def test_a_row_ignores_other_rows_and_its_padding(name: str) -> None:
    backbone = build_backbone(name, cameras=2)
    images, tokens = pictures(backbone, 3), backbone.tokenize(WORDS)
    together = backbone.encode(images, tokens)
    for row in range(3):
        alone = backbone.encode(images[row : row + 1], tokens[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=0)
    for module in backbone.modules():  # what [PAD] looks like must not matter
        if isinstance(module, torch.nn.Embedding) and module.num_embeddings == len(VOCABULARY):
            module.weight[0] = 100.0
    torch.testing.assert_close(backbone.encode(images, tokens), together, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", LAYOUTS)
@torch.inference_mode()
def test_latents_depend_on_words_pixels_and_camera_order(name: str) -> None:
    backbone = build_backbone(name, cameras=2)
    if isinstance(backbone, TinyBackbone) and backbone.camera_embedding is not None:
        torch.nn.init.normal_(backbone.camera_embedding)
    images = pictures(backbone, 1)
    red, blue = backbone.tokenize(["press the red button"]), backbone.tokenize(["press the blue button"])
    base = backbone.encode(images, red)
    assert (backbone.encode(images, blue) - base).abs().amax(dim=2).min() > 1e-4  # every latent hears the instruction
    assert (backbone.encode(255 - images, red) - base).abs().max() > 1e-2
    assert (backbone.encode(images.flip(1), red) - base).abs().max() > 1e-2


@torch.inference_mode()
def test_positions_survive_into_the_latents() -> None:
    """Behind the last layer of a fresh model, on a blank image, a linear map still reads row and column."""
    backbone = build_backbone("tiny-llava")
    blank = torch.full((1, 1, 64, 64, 3), 128, dtype=torch.uint8)
    latents = backbone.encode(blank, backbone.tokenize(["push"]))[0]
    index = torch.arange(64.0)
    place = torch.stack([index // 8, index % 8], dim=1)
    basis = torch.linalg.svd(latents - latents.mean(0), full_matrices=False)[0][:, :24]
    centred = place - place.mean(0)
    residual = centred - basis @ (basis.T @ centred)
    assert residual.square().sum() / centred.square().sum() < 0.05


def test_sine_cosine_positions_by_hand() -> None:
    table = sincos_positions(grid=2, width=8)  # frequencies 1 and 1/4; row half, then column half
    sin, cos = torch.tensor([1.0, 0.25]).sin(), torch.tensor([1.0, 0.25]).cos()
    zero, one = torch.cat([torch.zeros(2), torch.ones(2)]), torch.cat([sin, cos])
    expected = torch.stack([torch.cat([r, c]) for r in (zero, one) for c in (zero, one)])
    torch.testing.assert_close(table, expected)


@pytest.mark.parametrize("name", LAYOUTS)
def test_wrong_images_are_named(name: str) -> None:
    backbone = build_backbone(name)
    tokens = backbone.tokenize(["push"])
    with pytest.raises(
        DataError, match=r"torch.uint8 \(1, 1, 32, 32, 3\): backbone .* sees torch.uint8 \(B, 1, 64, 64"
    ):
        backbone.encode(torch.zeros((1, 1, 32, 32, 3), dtype=torch.uint8), tokens)
    with pytest.raises(DataError, match="torch.float32"):
        backbone.encode(torch.zeros((1, 1, 64, 64, 3)), tokens)


def test_registry_answers_unknown_names_with_near_ones() -> None:
    assert build_backbone("tiny").name == TINY
    with pytest.raises(ConfigError, match="backbone 'tiny-lava': no such backbone; did you mean 'tiny-llava'"):
        build_backbone("tiny-lava")
    with pytest.raises(ConfigError, match="setting of backbone 'tiny-llava' 'widht': .* did you mean 'width'"):
        build_backbone("tiny-llava", widht=32)
    with pytest.raises(ConfigError, match="heads=0: a positive integer is required; leave it out for the default 2"):
        build_backbone("tiny-llava", heads=0)


def test_importing_the_registry_does_not_import_transformers() -> None:
    code = "import sys, irevla_ros.policy.checkpoint; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", LAYOUTS)
def test_fingerprint_follows_weights_and_configuration(name: str) -> None:
    backbone = build_backbone(name)
    first = backbone.fingerprint()
    assert first == backbone.fingerprint() and len(first) == 64
    twin = build_backbone(name)
    assert twin.fingerprint() != first
    twin.load_state_dict(backbone.state_dict())
    assert twin.fingerprint() == first
    with torch.no_grad():
        next(twin.parameters()).view(-1)[0] += 1e-3
    assert twin.fingerprint() != first
    torch.manual_seed(0)  # same weights, heads cut differently
    assert build_backbone(name, heads=4).fingerprint() != first


def test_pretrained_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights" / "tiny.safetensors"
    monkeypatch.setattr(tiny, "WEIGHTS", path)
    with pytest.raises(CheckpointError, match="tiny.safetensors of backbone 'tiny-llava': .*; make them: irevla pretrain"):
        build_backbone("tiny-llava", pretrained=True)
    source = TinyLlava()
    source.save_pretrained(path, seed="7")
    assert build_backbone("tiny-llava", pretrained=True).fingerprint() == source.fingerprint()
    two_cameras = build_backbone("tiny-llava", pretrained=True, cameras=2)
    assert two_cameras.latent_shape == (128, 64)
    with pytest.raises(CheckpointError, match="of backbone 'tiny-llava': backbone 'tiny-instructblip' needs its own"):
        build_backbone("tiny-instructblip", pretrained=True)
    with pytest.raises(CheckpointError, match=r"is torch.float32 .* is required; use the configuration"):
        build_backbone("tiny-llava", pretrained=True, width=32)
    write_tensors(path, {"x": torch.zeros(1)}, {"backbone": "tiny-llava"})
    with pytest.raises(CheckpointError, match="lacks tensor"):
        build_backbone("tiny-llava", pretrained=True)


def test_tokenizer() -> None:
    tokens = WordTokenizer(6)(["Push the RED cube!", "zork  red", ""])
    ids = {word: index for index, word in enumerate(VOCABULARY)}
    assert tokens.tolist() == [
        [ids["push"], ids["the"], ids["red"], ids["cube"], 0, 0],
        [ids["[UNK]"], ids["red"], 0, 0, 0, 0],
        [0] * 6,
    ]
    assert tokens.dtype == torch.int64
    assert len(set(VOCABULARY)) == len(VOCABULARY) and VOCABULARY[0] == "[PAD]"
    with pytest.raises(DataError, match="'a b c d e f g' has 7 words: at most 6 are read; say it in fewer words"):
        WordTokenizer(6)(["a b c d e f g"])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(VOCABULARY[2:]), max_size=12))
def test_every_known_word_is_read(words: list[str]) -> None:
    tokens = WordTokenizer(12)([" ".join(words).upper()])[0].tolist()
    assert tokens == [VOCABULARY.index(word) for word in words] + [0] * (12 - len(words))


def test_learns_where_the_named_colour_is() -> None:
    """A red and a blue square in two of 16 cells: the place of the one that the instruction names."""
    backbone, head = build_backbone("tiny"), ActionHead(64, 0, 2)
    parameters = [*backbone.parameters(), *head.parameters()]
    optimiser = torch.optim.Adam(parameters)
    words = backbone.tokenize(["push the red cube", "push the blue cube"])
    colours = torch.tensor([[255, 0, 0], [0, 0, 255]])

    def error(n: int) -> torch.Tensor:
        cells = torch.rand(n, 16).argsort(dim=1)[:, :2]
        board = torch.full((n, 16, 3), 90)
        board[torch.arange(n)[:, None], cells] = colours
        images = board.view(n, 1, 4, 1, 4, 1, 3).expand(n, 1, 4, 16, 4, 16, 3).reshape(n, 1, 64, 64, 3)
        named = torch.randint(0, 2, (n,))
        cell = cells[torch.arange(n), named]
        place = torch.stack([cell % 4, cell // 4], dim=1) / 1.5 - 1
        latents = backbone.encode(images.to(torch.uint8), words[named])
        return (head(latents, torch.empty(n, 0))[:, 0] - place).square().mean()

    for step in range(120):
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / 30)
        optimiser.zero_grad()
        error(32).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
    with torch.inference_mode():
        assert error(200) < 0.1  # the variance of the target is 0.56; deaf to the words it stays above 0.25
