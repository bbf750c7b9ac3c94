"""Word-level tokenizer for short instructions, with a fixed vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from irevla_ros.core.errors import DataError

PAD, UNK = "[PAD]", "[UNK]"

# The order is the token id, so it is part of every checkpoint of a backbone that uses it.
VOCABULARY: tuple[str, ...] = (
    PAD, UNK,
    "red", "green", "blue", "yellow", "purple", "orange", "cyan", "white", "black", "grey", "gray", "pink", "brown",
    "cube", "cylinder", "sphere", "block", "ball", "box", "ring", "cone", "triangle", "pyramid", "can", "disc", "plate",
    "bowl", "tray", "bin", "container", "cup", "basket", "shelf", "bottle", "bar", "object", "target", "goal",
    "button", "drawer", "door", "lever", "handle", "switch", "knob", "cabinet", "window", "lid", "hinge", "slider",
    "press", "push", "pick", "up", "open", "close", "put", "pull", "move", "place", "lift", "grasp", "reach", "touch",
    "slide", "turn", "rotate", "stack", "drop", "release", "take", "hold", "go", "down", "slightly", "fully",
    "left", "right", "forward", "backward", "forwards", "backwards", "near", "far", "front", "back", "middle", "centre",
    "center", "top", "bottom", "corner", "edge", "side", "above", "below", "under", "behind", "beside", "between",
    "inside", "outside", "away", "towards", "toward", "from", "into", "onto", "over", "by", "with", "at", "out", "off",
    "the", "a", "an", "in", "on", "to", "of", "and", "or", "is", "are", "it", "its", "that", "this", "there", "next",
    "where", "what", "which", "how", "many", "colour", "color", "shape", "size", "not", "no", "yes", "than", "most",
    "small", "large", "big", "tiny", "medium", "tall", "short", "long", "wide", "closed", "opened", "pressed",
    "held", "empty", "full", "gripper", "robot", "arm", "hand", "finger", "table", "floor", "camera", "scene", "image",
    "one", "two", "three", "four", "five", "six", "first", "second", "last", "other", "same",
)  # fmt: skip


class WordTokenizer:
    """Words -> ids, case-insensitive, punctuation dropped, unknown words ``[UNK]``, padded to ``length``."""

    def __init__(self, length: int) -> None:
        self.length = length
        ids = {word: index for index, word in enumerate(VOCABULARY)}
        self.pad_id = ids[PAD]
        self._words = Tokenizer(models.WordLevel(ids, unk_token=UNK))
        self._words.normalizer = normalizers.Lowercase()
        self._words.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation(behavior="removed")]
        )
        self._ids = lru_cache(maxsize=4096)(self._encode)

    def __call__(self, instructions: Sequence[str]) -> torch.Tensor:
        """n instructions -> int64 [n, length]; ``DataError`` for one that has more words than that."""
        return torch.tensor([self._ids(instruction) for instruction in instructions], dtype=torch.int64)

    def _encode(self, instruction: str) -> list[int]:
        ids: list[int] = self._words.encode(instruction).ids
        if len(ids) > self.length:
            raise DataError(f"instruction {instruction!r} has {len(ids)} words", f"at most {self.length} are read",
                            "say it in fewer words")  # fmt: skip
        return ids + [self.pad_id] * (self.length - len(ids))
