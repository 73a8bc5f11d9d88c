"""The lean-attention core in Amaranth HDL, one component a module."""
