"""The cluster that tests simulate, so that there is one simulator to build."""

from golden.config import ClusterConfig, CoreConfig

CLUSTER = ClusterConfig(
    CoreConfig(
        rows=2,
        lanes=4,
        max_head_dim=16,
        max_value_dim=12,
        max_keys=1024,
        output_lanes=2,
        rows_per_scaler=2,
        tag_bits=8,
        key_timeout=400,
        rows_per_budget=0,
        target_control=0,
    ),
    cores=3,
    queue_jobs=3,
    queue_beats=8,
)
