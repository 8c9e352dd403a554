"""Training: one loop for every trained thing, with its data, schedules, optimizers and checkpoints.

A run is reproducible by construction: the draw of a batch follows from seed and epoch, and the random numbers of a step
from seed and step, so a run that was killed and resumed gives the numbers of one left alone. On a CPU that holds bit
for bit with the same number of threads (`OMP_NUM_THREADS`). On a GPU the caller decides whether to pay for it:
`torch.use_deterministic_algorithms(True)` and `CUBLAS_WORKSPACE_CONFIG=:4096:8` before the start; the loop does not set
them.
"""
