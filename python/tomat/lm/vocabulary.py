"""The ids a model knows: those of the tokenizer, and what objectives add at their end."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tomat.codec import Codec
    from tomat.tokenizer import PatchTokenizer

#: Rows of the embedding come in multiples of this, so that any mesh divides them and matrix units are filled.
_MULTIPLE = 128


@dataclass(frozen=True)
class ModelVocabulary:
    """Token ids of a model.

    The ids of the tokenizer keep their places; ``[MASK]`` follows the last of them, and the embedding is rounded up
    to a multiple of 128 rows, whatever the number of devices, so that checkpoints fit everywhere.

    Attributes:
        tokenizer: the tokenizer whose rows the model reads.
    """

    tokenizer: PatchTokenizer

    @property
    def codec(self) -> Codec:
        """The density codec."""
        return self.tokenizer.density_codec

    @property
    def pad(self) -> int:
        """Id of ``[PAD]``."""
        return self.tokenizer.vocabulary.specials["[PAD]"]

    @property
    def mask(self) -> int:
        """Id of ``[MASK]``: stands at a density position whose token is asked for."""
        return self.tokenizer.vocabulary.total_size

    @property
    def size(self) -> int:
        """Ids in use: the tokenizer's and ``[MASK]``."""
        return self.mask + 1

    @property
    def padded_size(self) -> int:
        """Rows of the embedding."""
        return -(-self.size // _MULTIPLE) * _MULTIPLE

    @property
    def density(self) -> slice:
        """Ids of the density tokens; ``codec.sizes`` says which part belongs to which component."""
        low, high = self.tokenizer.vocabulary.density_range
        return slice(low, high)

    def name(self, token: int) -> str:
        """Printed form of an id.

        Raises:
            IndexError: an id the model does not have.
        """
        if token == self.mask:
            return "[MASK]"
        if self.size <= token < self.padded_size:
            return f"[UNUSED{token - self.size}]"
        return self.tokenizer.vocabulary.name(token)

    @property
    def hash(self) -> str:
        """SHA-256 over the tokenizer's vocabulary hash and what is added."""
        return hashlib.sha256(f"{self.tokenizer.vocabulary.hash} [MASK]={self.mask}".encode()).hexdigest()
