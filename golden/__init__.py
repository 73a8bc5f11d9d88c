"""The specification of the lean-attention core as code. Imports nothing of the other packages."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_MODULES = {
    "golden.batch": ("BatchAttended", "attention"),
    "golden.config": ("CoreConfig", "preset"),
    "golden.errors": ("InputError",),
    "golden.masks": ("Mask", "MaskKind"),
    "golden.threshold": ("Threshold",),
    "golden.torch_functional": ("register_torch_attention", "torch_attention"),
}


def __getattr__(name: str) -> object:
    """Import what is asked for when it is: a board that only drives a device has none of what the models need."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'golden' has no attribute {name!r}")
