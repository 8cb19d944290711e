"""How torch's own threads wait for each other. Owns no state but an environment variable; imports no torch."""

import os


def let_threads_sleep() -> None:
    """To be called before torch is imported: its OpenMP runtime reads the variable then. Left alone, its threads spin
    for milliseconds after each operation, on the cores that our kernels' threads and the server want: 28% of the
    throughput of 16 clients on two cores. Who has set the variable keeps what it says.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
