"""Random commands of the key sequencer."""

from __future__ import annotations

import numpy as np

from golden.config import CoreConfig
from golden.key_sequence import WORD_BLOCKS, KeySequence
from golden.masks import Mask, MaskKind


def random_sequence(random: np.random.Generator, config: CoreConfig, most: int) -> KeySequence:
    """Return a command of up to about so many keys, of any density and block, with bounds that cut or leave nothing."""
    shift = int(random.choice([0, 0, 1, 2, 3, 4, 6]))
    first = int(random.integers(0, config.max_keys))
    end = min(config.max_keys + int(random.random() < 0.03), first + int(random.integers(0, most)))
    kind = MaskKind(int(random.integers(3)))
    window = int(random.integers(1, most))
    mask = Mask(kind, window if kind == MaskKind.WINDOW else 0)
    low = int(np.clip(random.integers(first - 20, end + 20), 0, config.max_keys - 1))
    high = int(np.clip(random.integers(low, low + most), 0, config.max_keys - 1))
    origin = (first >> shift) // WORD_BLOCKS * WORD_BLOCKS
    blocks = max((max(end - 1, first) >> shift) - origin + 1 + int(random.choice([-WORD_BLOCKS, 0, 50])), 1)
    bitmap = random.random(blocks) < random.choice([0.02, 0.3, 0.9, 1.0])
    return KeySequence(first, end, shift, bitmap, mask, (low, high))
