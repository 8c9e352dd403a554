"""Figures and the report: each `plot_x` takes a table or arrays and returns a Figure; no I/O, no statistics."""
