"""SNAIL: causal attention interleaved with temporal convolutions (Mishra et al., arXiv 1707.03141, section 3).

Time runs along the rows, features along the columns, and every block appends columns to what it was given::

    convolution(X)_t = X_t-r W_0 + X_t W_1 + b                with dilation r, and zeros before the first step
    dense block      = [X, tanh(convolution(X)) * sigmoid(convolution'(X))]
    TC block         = dense blocks with r = 1, 2, 4, ..., as many as log2 of the length, rounded up
    attention block  = [X, softmax(Q K^T / sqrt(d_k)) V]      causal; Q, K and V are affine maps of X

Dilations begin at 1, where the paper has 2^i from i = 1 on, so that with kernels of two steps a TC block reaches every
step before, odd distances too. Only the attention block has anything for the core: one head, keys and values of any two
dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from golden.errors import InputError
from golden.masks import Mask, MaskKind
from golden.variants.datapath import Datapath, softmax_attention
from golden.variants.linear import Linear, checked

_TAPS = 2


def causal_convolution(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, dilation: int) -> np.ndarray:
    """Return the dilated causal convolution of two steps.

    Parameters
    ----------
    x : numpy.ndarray
        Shape (length, inputs).
    weight, bias : numpy.ndarray
        For the step `dilation` before and for the step itself, shape (2, inputs, outputs), and shape (outputs,).
    dilation : int
        r, at least 1.

    Returns
    -------
    numpy.ndarray
        float64, shape (length, outputs).

    Raises
    ------
    InputError
        If shapes do not agree, a number is not finite, or the dilation is below 1.
    """
    if dilation < 1:
        raise InputError(f"a dilation must be at least 1, not {dilation}")
    x = checked("the input", x, None, None)
    weight = checked("the weight of a convolution", weight, _TAPS, x.shape[1], None)
    before = np.zeros_like(x)
    before[dilation:] = x[:-dilation]
    bias = checked("the bias of a convolution", bias, weight.shape[2])
    convolved: np.ndarray = before @ weight[0] + x @ weight[1] + bias
    return convolved


@dataclass(frozen=True, eq=False)
class DenseWeights:
    """The two convolutions of a dense block, each as `causal_convolution` takes it.

    Parameters
    ----------
    filter_weight, filter_bias : numpy.ndarray
        Of the one that passes a tanh.
    gate_weight, gate_bias : numpy.ndarray
        Of the one that passes a sigmoid.
    """

    filter_weight: np.ndarray
    filter_bias: np.ndarray
    gate_weight: np.ndarray
    gate_bias: np.ndarray


def dense_block(x: np.ndarray, weights: DenseWeights, dilation: int) -> np.ndarray:
    """Return the input with the gated convolution beside it: float64, shape (length, inputs + outputs).

    Raises
    ------
    InputError
        As `causal_convolution`, and if the two convolutions have different outputs.
    """
    filtered = np.tanh(causal_convolution(x, weights.filter_weight, weights.filter_bias, dilation))
    gate = causal_convolution(x, weights.gate_weight, weights.gate_bias, dilation)
    if filtered.shape != gate.shape:
        raise InputError(
            f"filter and gate of a dense block must have as many outputs, not {filtered.shape[1]} and {gate.shape[1]}"
        )
    # The sigmoid by a tanh, which does not overflow.
    return np.concatenate([x, filtered * 0.5 * (1 + np.tanh(0.5 * gate))], axis=1)


def tc_block(x: np.ndarray, blocks: Sequence[DenseWeights]) -> np.ndarray:
    """Return the input after a TC block.

    Parameters
    ----------
    x : numpy.ndarray
        Shape (length, inputs).
    blocks : sequence of DenseWeights
        Of each dense block, as many as the length needs: ``ceil(log2(length))``, for 1 step none.

    Returns
    -------
    numpy.ndarray
        float64, shape (length, inputs + the outputs of all blocks).

    Raises
    ------
    InputError
        As `dense_block`, and if there are fewer or more blocks.
    """
    x = checked("the input", x, None, None)
    needed = (len(x) - 1).bit_length()
    if len(blocks) != needed:
        raise InputError(f"a TC block over {len(x)} steps has {needed} dense blocks, not {len(blocks)}")
    for level, weights in enumerate(blocks):
        x = dense_block(x, weights, 1 << level)
    return x


def attention_block(
    x: np.ndarray, query: Linear, key: Linear, value: Linear, *, datapath: Datapath | None = None
) -> np.ndarray:
    """Return the input with what causal attention reads beside it.

    Parameters
    ----------
    x : numpy.ndarray
        Shape (length, inputs).
    query, key, value : Linear
        The maps of X; the first two have as many outputs.
    datapath : Datapath, optional
        The core to run the attention on; float64 without one.

    Returns
    -------
    numpy.ndarray
        float64, shape (length, inputs + value.outputs).

    Raises
    ------
    InputError
        If shapes do not agree, a number is not finite, or the core can't hold the layer.
    """
    x = checked("the input", x, None, None)
    heads = query(x)[None], key(x)[None], value(x)[None]
    read = softmax_attention(*heads, mask=Mask(MaskKind.CAUSAL), datapath=datapath)[0]
    return np.concatenate([x, read], axis=1)
