"""Commands of ``python -m perf_model``, one a module: `add` adds its options to the parser."""
