"""Jobs of a local run as forks of one process that holds the libraries: to import them takes longer than most jobs.

Snakemake starts a new Python for each job. Here it asks a server instead, a process beside it that forks for each job;
the server imports what a job has imported once that job is done, so that later jobs find it there. It runs no job's
code itself, and has no second thread but that of jemalloc (Arrow's), which is made for forks. Jobs in conda
environments, containers or shadow folders, and jobs on a cluster, start as Snakemake starts them; so does every job
where `NEUROLOOM_FORK=no` is set.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

# what is imported for later jobs: libraries that start no thread for it (Flower, through gRPC, would)
LIBRARIES = {
    *("numpy", "scipy", "sklearn", "joblib", "threadpoolctl", "pandas", "pyarrow", "zarr", "numcodecs", "torch"),
    *("matplotlib", "PIL", "mne", "nilearn", "nibabel", "pydantic", "snakemake", "neuroloom.config", "neuroloom.jobs"),
}
THREADS = ("OMP", "GOTO", "OPENBLAS", "MKL", "NUMEXPR")  # *_NUM_THREADS, as Snakemake sets them for a job
TEMPORARY = ("TMPDIR", "TMP", "TEMPDIR", "TEMP")
LONGEST, MOST = 2**18, 1000  # bytes and names of a message
NAME = "neuroloom"  # of the server, in top and ps; a job has that of its rule


def fork_jobs() -> None:
    """Make this Snakemake fork the jobs of NeuroLoom's scripts; where that cannot be, there is nothing to do."""
    from snakemake.script import PythonScript

    if not hasattr(os, "pidfd_open") or os.environ.get("NEUROLOOM_FORK") == "no" or hasattr(PythonScript, "server"):
        return
    start_anew = PythonScript.execute_script

    def execute_script(self: Any, fname: str, edit: bool = False) -> None:
        is_elsewhere = self.conda_env or self.container_img or self.env_modules or self.shadow_dir
        if edit or is_elsewhere or "from neuroloom." not in self.source:
            start_anew(self, fname, edit=edit)
        else:
            self.server.run(fname, self.threads, self.resources.get("tmpdir"), self.bench_record)

    PythonScript.server = server = Server()
    atexit.register(server.close)
    PythonScript.execute_script = execute_script


class Server:
    """The server as Snakemake sees it; it starts with the first job, and ends with Snakemake, however that ends."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.lock = threading.Lock()

    def run(self, script: str, threads: int, folder: str | None, record: Any) -> None:
        """Run one job and wait for it.

        Parameters
        ----------
        script : str
            File with the script, as Snakemake has written it.
        threads : int
            Of the job.
        folder : str or None
            For temporary files.
        record : snakemake.benchmark.BenchmarkRecord or None
            Is given the time and memory of the job.

        Raises
        ------
        subprocess.CalledProcessError
            The job has failed; negative codes are signals.
        """
        request = json.dumps({"script": script, "threads": threads, "folder": folder}).encode()
        answer, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with answer:
            with theirs, self.lock:
                try:
                    socket.send_fds(self._socket(), [request], [theirs.fileno()])
                except BrokenPipeError:  # it was killed, and is not yet dead
                    self.close()
                    socket.send_fds(self._socket(), [request], [theirs.fileno()])
            code = _follow(answer, record)
        if code:
            raise subprocess.CalledProcessError(code, f"{sys.executable} {script}")

    def close(self) -> None:
        """End the server; its time, and that of its jobs, then counts as Snakemake's."""
        if self.process:
            self.requests.close()
            self.process.terminate()  # it may be importing
            self.process.wait()

    def _socket(self) -> socket.socket:
        if self.process is None or self.process.poll() is not None:
            self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            # as much as a job gets at least; more would be threads, and -P: a file of the study is no library
            single = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **{f"{name}_NUM_THREADS": "1" for name in THREADS}}
            command = [sys.executable, "-P", "-m", __name__, str(theirs.fileno())]
            with theirs:
                self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=single)
        return self.requests


def _follow(answer: socket.socket, record: Any) -> int:
    """Exit code of a job at its end, when its time and the memory of its largest process are known to the last."""
    started = time.monotonic()
    ended = _receive(answer)
    if record is not None:
        record.running_time = time.monotonic() - started
        record.cpu_time, record.max_rss = ended["cpu_seconds"], ended["peak_mb"]
        record.cpu_usage = 100 * record.cpu_time  # of which Snakemake makes the mean load
        record.data_collected = True
    return int(ended["code"])


def _receive(answer: socket.socket) -> dict[str, Any]:
    if not (message := answer.recv(LONGEST)):
        raise ChildProcessError("the process that jobs are forks of was killed, perhaps for want of memory; run again")
    return dict(json.loads(message))


def serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork for each request, say how each fork ended, and import what it has imported, until Snakemake is gone.

    Parameters
    ----------
    requests : socket
        Brings the script, threads and folder of a job, and a socket for the answers.

    Returns
    -------
    dict or None
        In a fork its request, with a socket on which it says what it has imported; None in the server at the end.
    """
    _call_itself(NAME)
    interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the jobs
    learned, lessons = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    selector, running = selectors.DefaultSelector(), dict[int, tuple[int, socket.socket]]()
    selector.register(requests, selectors.EVENT_READ)
    selector.register(learned, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is learned:
                _import(json.loads(learned.recv(LONGEST)))
            elif key.fileobj is requests:
                message, received, _, _ = socket.recv_fds(requests, LONGEST, 1)
                if not message:
                    return None
                answer = socket.socket(fileno=received[0])
                if (pid := os.fork()) == 0:
                    signal.signal(signal.SIGINT, interrupted)
                    # that the server's ends are the only ones, and its death is seen
                    _close(selector, requests, learned, answer, *(other for _, other in running.values()))
                    return {**json.loads(message), "lessons": lessons}
                running[ended := os.pidfd_open(pid)] = pid, answer
                selector.register(ended, selectors.EVENT_READ)
            else:
                selector.unregister(key.fd)
                os.close(key.fd)
                _report(*running.pop(key.fd))


def _close(*opened: Any) -> None:
    for one in opened:
        one.close()


def _report(pid: int, answer: socket.socket) -> None:
    _, status, used = os.wait4(pid, 0)
    seconds, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024  # kB on Linux, where pidfd_open is
    ended = {"code": os.waitstatus_to_exitcode(status), "cpu_seconds": seconds, "peak_mb": peak}
    with answer, suppress(OSError):  # Snakemake was killed: nobody asks any more
        answer.send(json.dumps(ended).encode())


def _import(modules: Sequence[str]) -> None:
    """Import modules in the order in which a job did; what only that job could import is left to others like it."""
    shown, warnings.showwarning = warnings.showwarning, lambda *_, **__: None
    for module in modules:
        with suppress(Exception):
            importlib.import_module(module)
    warnings.showwarning = shown
    gc.collect()
    gc.freeze()  # no collection in a fork touches, and so copies, these pages


def _run(request: dict[str, Any]) -> None:
    """Run the script of a request in this fork, and say what it has imported."""
    os.environ |= {f"{name}_NUM_THREADS": str(request["threads"]) for name in THREADS}
    if request["folder"]:
        os.environ |= dict.fromkeys(TEMPORARY, request["folder"])
    _use_threads(request["threads"])
    _call_itself(Path(request["script"]).suffixes[-2][1:])  # what Snakemake puts before is random
    before = set(sys.modules)
    sys.argv = [request["script"]]
    runpy.run_path(request["script"], run_name="__main__")
    names = [name for name in sys.modules if name not in before and not LIBRARIES.isdisjoint(_parents(name))]
    with suppress(OSError):  # the server was killed: there are no later jobs
        for start in range(0, len(names), MOST):
            request["lessons"].send(json.dumps(names[start : start + MOST]).encode())


def _call_itself(name: str) -> None:
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name)


def _parents(module: str) -> list[str]:
    words = module.split(".")
    return [".".join(words[:end]) for end in range(1, len(words) + 1)]


def _use_threads(count: int) -> None:
    """What a new process would find in its environment, for libraries that have looked into it already."""
    if count > 1:
        from threadpoolctl import threadpool_limits

        threadpool_limits(count)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(count)


def main() -> None:
    """Serve; in a fork, run its job."""
    code = 1
    # Python's own end would touch every object, and so copy all the memory that a fork shares; this is called last
    atexit.register(lambda: _leave(code))
    request = serve(socket.socket(fileno=int(sys.argv[1])))
    if request:
        try:
            _run(request)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
            raise
    code = 0


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
