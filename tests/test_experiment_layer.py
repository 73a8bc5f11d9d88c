"""A layer of a model on the simulated core: the keys that survive are those that an experiment records of it."""

from __future__ import annotations

import numpy as np
import pytest

from golden.capture import LayerRecorder
from golden.config import preset
from golden.experiments import byte_language_model as byte_lm
from golden.experiments.byte_language_model import ModelShape
from golden.hugging_face import register_attention
from golden.job_record import JobLog
from golden.threshold import Threshold
from golden.torch_functional import register_torch_attention
from sim.simulate import LayerWork, simulate_layers

SHAPE = ModelShape(layers=2, hidden=32, intermediate=64, query_heads=4, kv_heads=2, head_dim=8, context=32)
TEXT = np.frombuffer(b"def twice(number):\n    return number * 2\n\n" * 2, dtype=np.uint8)
WINDOWS = TEXT[: 2 * 32].reshape(2, 32)
RECORDED, CAPTURED = "lean_attention_recorded", "lean_attention_captured"


def test_the_simulated_core_keeps_what_the_record_of_an_experiment_says():
    pytest.importorskip("transformers", reason="transformers is not installed")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install lean-attention[models]")
    config, threshold = preset("tiny"), Threshold.of(tau=2)
    log, recorder = JobLog(config), LayerRecorder(0)
    register_torch_attention(config=config, threshold=threshold, name=RECORDED, log=log)
    register_attention(CAPTURED, recorder)
    model = byte_lm.build_model(SHAPE, attention=RECORDED)
    # Untrained attention is nearly even: nothing would be dropped.
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "q_proj" in name:
                weights.mul_(30)
    byte_lm.held_out_loss(model, WINDOWS)
    model.set_attn_implementation(CAPTURED)
    byte_lm.held_out_loss(model, WINDOWS[:1])

    assert recorder.tensors is not None
    layer = LayerWork(recorder.tensors.quantise(), threshold, recorder.tensors.mask)
    # The two kv heads of the first layer on the first window come first.
    record = log.record().of_heads(0, 2)
    assert 0 < record.survivors.sum() < len(record.survivors)
    (run,) = simulate_layers([layer], config)
    assert np.array_equal(np.concatenate([result.survivors for result in run.golden.results]), record.survivors)
