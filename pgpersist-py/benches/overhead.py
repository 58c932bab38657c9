"""What does the package cost: at import over bare Python, and for the cheapest operation in both faces?

    python benches/overhead.py [ROUNDS]

The cheapest operation asks a store in memory for a list of nothing. Beside the time on the clock stands the processor's, which
a busy machine lengthens less. JSON on stdout, a table on stderr.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import time
from typing import Callable

from figures import Figure, head, tell

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 31
CALLS = 2_000
#: What is wanted at most of an import, in milliseconds, and of a call, in microseconds.
IMPORT_MS = 30
CALL_US = 50


def _program_ms(line: str) -> tuple[float, float]:
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", line], check=True)
    ended, after = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (ended - began) * 1000, processor * 1000


def imports() -> list[Figure]:
    """In turn, so that whatever else the machine does hits both."""
    bare, ours = [], []
    for _ in range(ROUNDS):
        bare.append(_program_ms("pass"))
        ours.append(_program_ms("import pgpersist"))
    figures = []
    for number, (clock, most) in enumerate((("clock", IMPORT_MS), ("processor", None))):
        without = [times[number] for times in bare]
        over = [times[number] - min(without) for times in ours]
        figures.append(Figure(f"bare Python, {clock}", "ms", without))
        figures.append(Figure(f"import pgpersist, over bare Python, {clock}", "ms", over, most))
    return figures


def calls() -> list[Figure]:
    """A call, from Python to the runtime's thread and back."""
    from pgpersist import _native
    from pgpersist._faces import awaited, blocking

    store = _native.NativeStore.memory()

    def each(once: Callable[[], object]) -> float:
        began = time.perf_counter()
        for _ in range(CALLS):
            once()
        return (time.perf_counter() - began) / CALLS * 1e6

    async def each_async() -> float:
        began = time.perf_counter()
        for _ in range(CALLS):
            await awaited(store.list(""))
        return (time.perf_counter() - began) / CALLS * 1e6

    each(lambda: blocking(store.list("")))
    return [
        Figure("a blocking call", "µs", [each(lambda: blocking(store.list(""))) for _ in range(ROUNDS)], CALL_US),
        Figure("an awaited call", "µs", [asyncio.run(each_async()) for _ in range(ROUNDS)], CALL_US),
    ]


if __name__ == "__main__":
    head()
    tell(imports())
    tell(calls())
