"""The vocabulary of a model: the tokenizer's ids, followed by ``[MASK]``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tomat.codec import Codec
    from tomat.tokenizer import PatchTokenizer

#: The rows of the embedding are a multiple of this, so that meshes divide them and matrix units are filled.
_MULTIPLE = 128


@dataclass(frozen=True)
class ModelVocabulary:
    """Token ids of a model.

    The tokenizer's ids are unchanged and ``[MASK]`` follows them. The embedding is padded to a multiple of 128 rows,
    independent of the number of devices, so that checkpoints fit everywhere.

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
        """Id of ``[MASK]``, the input at a masked density position."""
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
        """Ids of the density tokens, component after component as in ``codec.sizes``."""
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
        """SHA-256 over the tokenizer's vocabulary hash and the id of ``[MASK]``."""
        return hashlib.sha256(f"{self.tokenizer.vocabulary.hash} [MASK]={self.mask}".encode()).hexdigest()
