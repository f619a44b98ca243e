"""Processes that `command_server` forks, for the tests that start several at once."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Server:
    """A process in a folder that forks one for every command, see `command_server`."""

    def __init__(self, folder: Path, cache: Path):
        self.folder, pipe = folder, subprocess.PIPE
        env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)}
        script = Path(__file__).with_name("command_server.py")
        self._server = subprocess.Popen(
            [sys.executable, "-W", "error", str(script)],
            cwd=folder,
            env=env,
            stdin=pipe,
            stdout=pipe,
            text=True,
            start_new_session=True,
        )

    def close(self) -> None:
        # None of them outlives the test.
        os.killpg(self._server.pid, signal.SIGKILL)
        self._server.communicate()

    def _ask(self, *request: Any) -> Any:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def start(
        self,
        name: str,
        commands: Sequence[Sequence[str]],
        told: Sequence[dict[str, Any]],
        **alike: Any,
    ) -> "Started":
        """Starts a process a command, with what each of them and what all are told beside it."""
        folders = [self.folder / f"{name}-{at}" for at in range(len(commands))]
        asked = [
            {"folder": str(folder), "command": [*command], **own, **alike}
            for folder, command, own in zip(folders, commands, told, strict=True)
        ]
        return Started(self, self._ask("start", asked), folders)

    def wait(self, pids: Sequence[int], seconds: float) -> list[int | str]:
        """How they ended, by then or killed."""
        return self._ask("wait", pids, seconds)


class Started:
    """Processes that were started together."""

    def __init__(self, server: Server, pids: list[int], folders: list[Path]):
        self._server, self.pids, self._folders = server, pids, folders

    def codes(self, *, seconds: float = 240) -> list[int | str]:
        """How all of them ended."""
        return self._server.wait(self.pids, seconds)

    def said(self, name: str) -> list[str]:
        return [(folder / name).read_text() for folder in self._folders]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
