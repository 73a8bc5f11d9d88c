"""The specification of the lean-attention core as code. Imports nothing of the other packages."""
