"""Small backbones for CPUs: real Hugging Face vision-language classes with small configurations, all weights trained.

They take the path of the large ones in about 1 ms an image. What the Hugging Face ``forward`` methods do besides (class
token, output records, caches, mask building, logits) costs more than the arithmetic at this size, so ``_encode`` calls
their sub-modules itself.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    GPT2Config,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipQFormerConfig,
    InstructBlipVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from irevla_ros.core.errors import CheckpointError
from irevla_ros.policy.backbone import Backbone, check_settings
from irevla_ros.policy.tensor_file import load_into, read_tensors, write_tensors
from irevla_ros.policy.tokenizer import VOCABULARY, WordTokenizer

WEIGHTS = Path(__file__).parent / "weights" / "tiny.safetensors"  # written by `irevla pretrain`, shipped in the package
TEXT_LENGTH = 12
TEXT_BIAS = 2.0  # e^2 = 7.4: five words weigh at first as much as half of the image tokens
IMAGE_SIZE, PATCH = 64, 8
GRID = IMAGE_SIZE // PATCH
PATCHES = GRID * GRID


def sincos_positions(grid: int, width: int) -> Tensor:
    """2-D sine-cosine embedding of a grid, [grid * grid, width]: half of the width for the row, half for the column.

    Frequencies fall geometrically from 1 to 1/(2 grid) radian per patch: neighbours differ clearly, and the slowest
    wave orders the whole image. (Transformers' usual floor of 1/10000 wastes most of a small width.)
    """
    frequencies = torch.logspace(0, -1, width // 4, base=2 * grid)
    angles = torch.arange(grid)[:, None] * frequencies
    line = torch.cat([angles.sin(), angles.cos()], dim=1)  # [grid, width / 2]
    rows = line[:, None].expand(-1, grid, -1)
    columns = line[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], dim=2).reshape(grid * grid, width)


class TinyBackbone(Backbone):
    """What the tiny layouts share: settings, tokenizer, patches, cameras, pretrained weights."""

    DEFAULTS: dict[str, int]

    def __init__(self, **settings: int) -> None:
        super().__init__()
        check_settings(self.name, settings, self.DEFAULTS)
        self.config = self.DEFAULTS | settings
        self.cameras = self.config["cameras"]
        self.image_size = (IMAGE_SIZE, IMAGE_SIZE)
        self.tokenizer = WordTokenizer(TEXT_LENGTH)
        self.model = self._build(self.config)
        # Present only when needed, so that weights pretrained with one camera serve several.
        self.camera_embedding = (
            nn.Parameter(torch.zeros(self.cameras, 1, self.config["width"])) if self.cameras > 1 else None
        )

    @abstractmethod
    def _build(self, config: dict[str, int]) -> Any:
        """The Hugging Face model, without the parts that ``_encode`` does not call."""

    def tokenize(self, instructions: Sequence[str]) -> Tensor:
        return self.tokenizer(instructions)

    def _words(self) -> Sequence[str]:
        return VOCABULARY

    def _patches(self, images: Tensor, convolution: nn.Conv2d) -> Tensor:
        """uint8 [B, C, H, W, 3] -> patch embeddings [B * C, 64, width].

        A convolution whose stride is its kernel is a matrix product, which is faster than the convolution.
        """
        frames = images.shape[0] * images.shape[1]
        pixels = images.reshape(frames, GRID, PATCH, GRID, PATCH, 3).permute(0, 1, 3, 5, 2, 4)
        flat = pixels.reshape(frames, PATCHES, 3 * PATCH * PATCH).float().mul_(2 / 255).sub_(1)
        return F.linear(flat, convolution.weight.flatten(1), convolution.bias)

    def _join_cameras(self, features: Tensor, batch: int) -> Tensor:
        """[B * C, 64, width] -> [B, C * 64, width], each camera marked when there are several."""
        if self.camera_embedding is None:
            return features
        marked = features.view(batch, self.cameras, PATCHES, -1) + self.camera_embedding
        return marked.flatten(1, 2)

    def _key_mask(self, tokens: Tensor, before: int, after: int) -> Tensor:
        """Additive attention mask [B, 1, S, S] that hides padding as keys; ``before``, ``after``: tokens around it.

        It is not causal: as in PaliGemma, a prefix that is only read may attend in both directions. Words get a head
        start, or a handful of them would at first drown among the image tokens, and the instruction be learned late.
        """
        text = torch.full(tokens.shape, TEXT_BIAS, device=tokens.device)
        text.masked_fill_(tokens == self.tokenizer.pad_id, float("-inf"))
        mask = F.pad(text, (before, after))
        return mask[:, None, None, :].expand(-1, 1, mask.shape[1], -1)

    def load_pretrained(self) -> None:
        """Load the packaged weights; ``CheckpointError`` when missing or of another layout or configuration."""
        if not WEIGHTS.exists():
            raise CheckpointError(f"pretrained weights {WEIGHTS.name} of backbone {self.name!r}",
                                  "the package does not hold them", "make them: irevla pretrain")  # fmt: skip
        file = read_tensors(WEIGHTS)
        layout = file.metadata.get("backbone", "")
        if layout != self.name:
            raise CheckpointError(f"pretrained weights {WEIGHTS.name} of backbone {layout!r}",
                                  f"backbone {self.name!r} needs its own",
                                  f"make them: irevla pretrain backbone={self.name}")  # fmt: skip
        load_into(self, file, WEIGHTS, allow_missing=("camera_embedding",))

    def save_pretrained(self, path: Path = WEIGHTS, **provenance: str) -> None:
        """Write the weights, with name and ``provenance``, where ``load_pretrained`` finds them."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, self.state_dict(), {"backbone": self.name, **provenance})


class TinyLlava(TinyBackbone):
    """LLaVA (CLIP vision tower, projector, language model); its language model is a GPT-2.

    GPT-2 rather than Llama for speed: one matrix product for q, k and v, fused layer norms, and learned positions,
    which start as 2-D sine-cosines and so still tell, behind the last layer, where in the image a latent is.
    Latents are the last hidden states at the image tokens: m = 64 for each camera. The text stands before the image.
    """

    name = "tiny-llava"
    DEFAULTS = {"width": 64, "vision_layers": 2, "text_layers": 2, "heads": 2, "mlp_ratio": 2, "cameras": 1}

    def _build(self, config: dict[str, int]) -> Any:
        width = config["width"]
        vision = CLIPVisionConfig(
            hidden_size=width, intermediate_size=config["mlp_ratio"] * width, num_hidden_layers=config["vision_layers"],
            num_attention_heads=config["heads"], image_size=IMAGE_SIZE, patch_size=PATCH, hidden_act="gelu",
            initializer_range=(3 * PATCH * PATCH) ** -0.5,
        )  # fmt: skip
        text = GPT2Config(
            vocab_size=len(VOCABULARY), n_embd=width, n_inner=config["mlp_ratio"] * width,
            n_layer=config["text_layers"], n_head=config["heads"], n_positions=TEXT_LENGTH + PATCHES,
            activation_function="gelu", attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0,
            initializer_range=0.5 * width**-0.5, tie_word_embeddings=False,
            pad_token_id=self.tokenizer.pad_id, bos_token_id=self.tokenizer.pad_id, eos_token_id=self.tokenizer.pad_id,
        )  # fmt: skip
        model = LlavaForConditionalGeneration(
            LlavaConfig(vision_config=vision, text_config=text, image_token_index=1, tie_word_embeddings=False)
        )  # fmt: skip
        del model.lm_head  # no logits
        parts: Any = model.model
        del parts.vision_tower.embeddings.class_embedding  # the projector would drop it anyway
        positions = sincos_positions(GRID, width)
        parts.vision_tower.embeddings.position_embedding = nn.Embedding(PATCHES, width, _weight=positions.clone())
        with torch.no_grad():
            parts.language_model.wpe.weight[TEXT_LENGTH:] = positions
            parts.language_model.wte.weight.normal_()  # of the scale of the image tokens beside them
        return model

    @property
    def latent_shape(self) -> tuple[int, int]:
        return self.cameras * PATCHES, self.config["width"]

    def _encode(self, images: Tensor, tokens: Tensor) -> Tensor:
        vision, language = self.model.model.vision_tower, self.model.model.language_model
        embeddings = vision.embeddings
        seen = vision.pre_layrnorm(
            self._patches(images, embeddings.patch_embedding) + embeddings.position_embedding.weight
        )
        for layer in vision.encoder.layers:
            seen = layer(seen, None)
        seen = self.model.model.multi_modal_projector(vision.post_layernorm(seen))
        positions = language.wpe.weight
        words = language.wte(tokens) + positions[:TEXT_LENGTH]
        hidden = torch.cat([words, self._join_cameras(seen + positions[TEXT_LENGTH:], len(tokens))], dim=1)
        mask = self._key_mask(tokens, before=0, after=hidden.shape[1] - TEXT_LENGTH)
        for block in language.h:
            hidden = block(hidden, attention_mask=mask)
        latents: Tensor = language.ln_f(hidden[:, TEXT_LENGTH:])
        return latents


class TinyInstructBlip(TinyBackbone):
    """InstructBLIP: a vision transformer read by a Q-Former that sees the instruction (BLIP-2's does not).

    Latents are the Q-Former's outputs at the queries: m = ``queries`` for any number of cameras. What follows in
    InstructBLIP, a projection and a language model that is only needed to speak, is left out.
    """

    name = "tiny-instructblip"
    DEFAULTS = {
        "width": 64, "vision_layers": 2, "text_layers": 2, "heads": 2, "mlp_ratio": 2, "cameras": 1, "queries": 16,
    }  # fmt: skip

    def _build(self, config: dict[str, int]) -> Any:
        width, heads, inner = config["width"], config["heads"], config["mlp_ratio"] * config["width"]
        vision = InstructBlipVisionConfig(
            hidden_size=width, intermediate_size=inner, num_hidden_layers=config["vision_layers"],
            num_attention_heads=heads, image_size=IMAGE_SIZE, patch_size=PATCH,
            initializer_range=0.5 * width**-0.5,
        )  # fmt: skip
        qformer = InstructBlipQFormerConfig(
            vocab_size=len(VOCABULARY), hidden_size=width, intermediate_size=inner, encoder_hidden_size=width,
            num_hidden_layers=config["text_layers"], num_attention_heads=heads, cross_attention_frequency=1,
            max_position_embeddings=TEXT_LENGTH, pad_token_id=self.tokenizer.pad_id, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0, initializer_range=0.5 * width**-0.5, layer_norm_eps=1e-6,
        )  # fmt: skip
        unused = GPT2Config(vocab_size=2, n_embd=2, n_layer=1, n_head=1, n_positions=1, tie_word_embeddings=False,
                            bos_token_id=0, eos_token_id=0)  # fmt: skip
        model: Any = InstructBlipForConditionalGeneration(
            InstructBlipConfig(vision_config=vision, qformer_config=qformer, text_config=unused,
                               num_query_tokens=config["queries"])
        )  # fmt: skip
        del model.language_model, model.language_projection
        last = model.qformer.encoder.layer[-1]
        del last.intermediate, last.output  # they would compute the text's outputs, which nobody reads
        embeddings: Any = model.vision_model.embeddings
        del embeddings.class_embedding
        embeddings.position_embedding = nn.Parameter(sincos_positions(GRID, width))
        nn.init.normal_(model.query_tokens)  # the zeros of the original would keep all queries equal for ever
        return model

    @property
    def latent_shape(self) -> tuple[int, int]:
        return self.config["queries"], self.config["width"]

    def _encode(self, images: Tensor, tokens: Tensor) -> Tensor:
        vision, qformer, queries = self.model.vision_model, self.model.qformer, self.config["queries"]
        embeddings = vision.embeddings
        seen = self._patches(images, embeddings.patch_embedding) + embeddings.position_embedding
        for layer in vision.encoder.layers:
            seen = layer(seen)
        seen = vision.post_layernorm(seen)
        # The positions are added once more: the queries must read where a patch is, not only what it shows.
        seen = self._join_cameras(seen + embeddings.position_embedding, len(tokens))
        hidden = qformer.embeddings(tokens, query_embeds=self.model.query_tokens.expand(len(tokens), -1, -1))
        mask = self._key_mask(tokens, before=queries, after=0)
        for layer in qformer.encoder.layer:
            hidden = layer.attention(hidden, mask)
            read: Tensor = layer.feed_forward_chunk_query(
                layer.crossattention(hidden[:, :queries], encoder_hidden_states=seen)
            )
            if layer is not qformer.encoder.layer[-1]:
                hidden = torch.cat([read, layer.feed_forward_chunk(hidden[:, queries:])], dim=1)
        return read
