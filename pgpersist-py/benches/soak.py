"""Does anything grow when an operation is called again and again: memory, threads, file descriptors?

``python benches/soak.py --calls 10000`` calls each operation so often, both faces by turns; ``--only status,dump`` some of
them. What starts processes takes 0.05 to 3 s a call, so ``--slow-calls`` may give those fewer, and ``--part slow`` and
``--part fast`` may run beside each other. One JSON line an operation; exit code 1 when one of them grew. As many as a tenth
of the calls, and a hundred at least, warm up and do not count.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import pwd
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from soak_cases import Case, cases

from pgpersist import Cluster, TemporaryCluster

#: What an allocator may keep unasked. A leak of 200 bytes a call shows from 10,000 calls on.
ALLOWED_KIB = 2048


def _rss_kib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("the kernel tells no VmRSS")


def _counts() -> tuple[int, int]:
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def _settled(wanted: tuple[int, int]) -> tuple[int, int]:
    """The counts, when the library's idle threads have gone: they do so after ten seconds."""
    found = _counts()
    for _ in range(150):
        if found[0] <= wanted[0] and found[1] <= wanted[1]:
            break
        time.sleep(0.1)
        found = _counts()
    return found


def soak(case: Case, calls: int, loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
    """Calls it so often, and tells what was before and what is after."""

    def some(number: int) -> None:
        for turn in range(number):
            if turn % 2:
                case.blocking()
            else:
                loop.run_until_complete(case.awaited())
        gc.collect()

    # What an allocator keeps of operations on many threads comes in the first calls, and stops to grow after some hundreds.
    some(max(100, calls // 10))
    before, memory = _settled((0, 0)) if case.is_slow else _counts(), _rss_kib()
    began = time.monotonic()
    some(calls)
    seconds = time.monotonic() - began
    after, growth = _settled(before), _rss_kib() - memory
    return {
        "operation": case.name,
        "calls": calls,
        "ms_a_call": round(1000 * seconds / calls, 3),
        "rss_growth_kib": growth,
        "threads": [before[0], after[0]],
        "descriptors": [before[1], after[1]],
        "grew": growth > ALLOWED_KIB or after[0] > before[0] or after[1] > before[1],
    }


def _place() -> Path:
    place = Path(tempfile.mkdtemp(prefix="pgpy-soak-"))
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(place, user.pw_uid, user.pw_gid)
    place.chmod(0o755)
    return place


def main() -> int:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000, help="how often each operation is called")
    parser.add_argument("--slow-calls", type=int, help="how often one that starts processes is; else as often")
    parser.add_argument("--part", choices=["fast", "slow"], help="only those that start processes, or only the others")
    parser.add_argument("--only", default="", help="operations, separated by commas")
    arguments = parser.parse_args()
    if os.environ.get("MALLOC_ARENA_MAX") != "1":
        # glibc keeps for each thread an arena of what was given back to it; with a single one, what grows is what is held.
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "MALLOC_ARENA_MAX": "1"})
    only = {name.strip() for name in arguments.only.split(",") if name.strip()}
    place, loop, grew = _place(), asyncio.new_event_loop(), False
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    settings = {"unix_socket_directories": str(place), "shared_buffers": "16MB"}
    cluster = Cluster(place / "data", store=place / "backups", databases=["shop"], port=port, settings=settings)
    try:
        cluster.init(allow_ephemeral=True)
        cluster.start()
        cluster.dump()
        with TemporaryCluster() as temporary:
            for case in cases(place, cluster, temporary):
                if (only and case.name not in only) or (arguments.part and case.is_slow != (arguments.part == "slow")):
                    continue
                calls = arguments.slow_calls if case.is_slow and arguments.slow_calls else arguments.calls
                result = soak(case, calls, loop)
                grew |= result["grew"]
                print(json.dumps(result), flush=True)
    finally:
        cluster.stop(timeout=10)
        shutil.rmtree(place)
        loop.close()
    return 1 if grew else 0


if __name__ == "__main__":
    sys.exit(main())
