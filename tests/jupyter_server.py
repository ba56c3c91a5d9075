"""Where a JupyterLab that a test has started answers."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

START_SECONDS = 90


def address(server: subprocess.Popen[bytes], log: Path) -> str:
    """The address with its token that ``server`` writes to ``log``, once it answers there.

    Jupyter Server writes the address before it listens, so the log alone is not enough.

    Raises:
        AssertionError: if it ends, or does not answer within ``START_SECONDS``; says what the log says.
    """
    ends = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < ends:
        found = re.search(r"http://127\.0\.0\.1:(\d+)/\S*\?token=\w+", log.read_text())
        if found:
            with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", int(found[1]))):
                return found[0]
        time.sleep(0.1)
    raise AssertionError(log.read_text())
