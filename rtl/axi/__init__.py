"""The core in a system: AXI registers, memory masters, and what runs jobs from descriptors in memory."""
