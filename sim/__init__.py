"""Simulation of the generated Verilog: cocotb test benches on Verilator, held to the golden model."""
