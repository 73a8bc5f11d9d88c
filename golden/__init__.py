"""The specification of the lean-attention core as code. Imports nothing of the other packages."""

from golden.batch import BatchAttended, attention
from golden.config import CoreConfig, preset
from golden.errors import InputError
from golden.masks import Mask, MaskKind
from golden.threshold import Threshold
from golden.torch_functional import register_torch_attention, torch_attention

__all__ = [
    "BatchAttended",
    "CoreConfig",
    "InputError",
    "Mask",
    "MaskKind",
    "Threshold",
    "attention",
    "preset",
    "register_torch_attention",
    "torch_attention",
]
