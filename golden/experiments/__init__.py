"""Experiments with models that use the core's arithmetic: what they need beyond the core, and their commands."""
