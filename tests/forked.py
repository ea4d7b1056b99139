"""The program as forks of one process that has loaded its modules, which takes longer than most commands do.

    python forked.py NUMBER      serves the requests from the socket of that number

A fork is a process of its own from then on: it has the command line, the folder and the streams of its request, and
ends as the program ends. Variables for jax must be those of the process that is forked, which reads them as it loads.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

_LONGEST = 1 << 16


class Forked:
    """A server and the end of the socket that it listens to; one request at a time."""

    def __init__(self, environment: dict[str, str]):
        self._socket, other = socket.socketpair()
        command = [sys.executable, __file__, str(other.fileno())]
        self._server = subprocess.Popen(command, env=environment, pass_fds=[other.fileno()])
        other.close()

    def close(self) -> None:
        """End the server."""
        self._socket.close()
        self._server.wait()

    def run(
        self, arguments: list[str], *, cwd: Path | None, stdin: bytes, timeout: float
    ) -> subprocess.CompletedProcess[bytes]:
        """What ``subprocess.run`` with captured streams says of the program."""
        request = json.dumps({"arguments": arguments, "cwd": str(cwd or Path.cwd())}).encode() + b"\n"
        (from_us, into), (out, from_out), (err, from_err) = os.pipe(), os.pipe(), os.pipe()
        socket.send_fds(self._socket, [request], [from_us, from_out, from_err])
        for number in (from_us, from_out, from_err):
            os.close(number)
        with ThreadPoolExecutor(3) as pool:
            streams = [pool.submit(_read, out), pool.submit(_read, err)]
            pool.submit(_write, into, stdin)
            return self._ended(arguments, streams, timeout)

    def _ended(
        self, arguments: list[str], streams: list[Future[bytes]], timeout: float
    ) -> subprocess.CompletedProcess[bytes]:
        lines = self._socket.makefile()
        process = int(lines.readline())
        killer = threading.Timer(timeout, os.kill, (process, signal.SIGKILL))
        killer.start()
        status = int(lines.readline())
        killer.cancel()
        stdout, stderr = (stream.result() for stream in streams)
        if status == -signal.SIGKILL:
            raise subprocess.TimeoutExpired(arguments, timeout, stdout, stderr)
        return subprocess.CompletedProcess(arguments, status, stdout, stderr)


def _read(number: int) -> bytes:
    with open(number, "rb") as file:
        return file.read()


def _write(number: int, content: bytes) -> None:
    with open(number, "wb") as file:
        file.write(content)


def load() -> None:
    """All modules of the program, and with them what they need."""
    import svae_cli

    for module in pkgutil.walk_packages(svae_cli.__path__, "svae_cli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    assert threading.active_count() == 1, "a fork would lack the other threads"


def serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork for each request; returns in the forks, with what is asked of them, and at the end."""
    while True:
        message, streams, _, _ = socket.recv_fds(requests, _LONGEST, 3)
        if not message:
            return None
        process = os.fork()
        if process == 0:
            requests.close()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            return json.loads(message)
        for stream in streams:
            os.close(stream)
        requests.sendall(f"{process}\n".encode())
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        requests.sendall(f"{status}\n".encode())


def end(code: int) -> NoReturn:
    """End at once: to take all loaded modules apart again takes longer than most commands, too."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    load()
    gc.freeze()  # what is loaded is shared by all forks, and stays
    asked = serve(socket.socket(fileno=int(sys.argv[1])))
    if asked is not None:
        from svae_cli.__main__ import main

        sys.argv = ["svae", *asked["arguments"]]
        os.chdir(asked["cwd"])
        try:
            main()
        except SystemExit as left:
            end(left.code if isinstance(left.code, int) else int(left.code is not None))
