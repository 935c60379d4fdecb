# SPDX-License-Identifier: MIT
"""The memory of a child process, for the scripts that measure it (Linux)."""
import pathlib
import time


def peak_mib(pid):
    """What the process has held at most since it was started. Its resource usage counts what its parent held, too."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return max((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), default=0.0)


def wait(process, seconds=float("inf")):
    """Waits for a subprocess.Popen, at most so long: its exit code, None if it still runs, and its peak in MiB."""
    begin = time.monotonic()
    peak = 0.0
    while (code := process.poll()) is None and time.monotonic() - begin < seconds:
        peak = max(peak, peak_mib(process.pid))
        time.sleep(0.005)
    return code, peak
