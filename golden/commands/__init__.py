"""The commands of ``python -m golden``, one a module: ``add`` describes its options, ``run`` is what it does."""
