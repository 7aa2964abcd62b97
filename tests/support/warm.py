"""Forks reference backends for the tests: `python warm.py NAME`, in `deploy/backend`.

To load FastAPI takes half a second of CPU, more than most tests take for everything else. So a test program
loads it once, and each of its backends is a fork: a process of its own, to be killed and frozen like any other.

It listens on the abstract Unix socket NAME and says "ready". A connection orders one backend with a line of
JSON: `arguments`, `environment`, and the files `out` and `err`. It is told the process's id in a line, and after
the process's end its wait status in another. The id stays taken until the connection is closed. When standard
input ends, all of it does.
"""

import gc
import json
import os
import select
import signal
import socket
import sys
from typing import Any, NoReturn

# What `import uvicorn` leaves for later.
import uvicorn.lifespan.on  # noqa: F401
import uvicorn.protocols.http.h11_impl  # noqa: F401

sys.path.insert(0, os.getcwd())

from assistant.__main__ import main as assistant  # noqa: E402

READABLE = select.POLLIN | select.POLLHUP


def serve(name: str) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0{name}")
    listener.listen(64)
    poll = select.poll()
    for fd in (0, listener.fileno()):
        poll.register(fd, READABLE)
    gc.freeze()  # what is shared stays shared
    print("ready", flush=True)
    orders: dict[int, Order] = {}  # by the descriptor of the connection, and by that of the process while it lives
    while True:
        # New orders last: a descriptor that is given back may be the next one's.
        for fd, _ in sorted(poll.poll(), key=lambda event: event[0] == listener.fileno()):
            if fd == 0:
                for order in orders.values():
                    os.kill(order.pid, signal.SIGKILL)
                return
            if fd == listener.fileno():
                order = Order(listener.accept()[0])
                for descriptor in order.descriptors():
                    orders[descriptor] = order
                    poll.register(descriptor, READABLE)
            elif fd in orders:
                order = orders[fd]
                is_over = fd == order.connection.fileno()
                for descriptor in order.descriptors() if is_over else [fd]:
                    if orders.pop(descriptor, None):
                        poll.unregister(descriptor)
                order.end() if is_over else order.tell()


class Order:
    """A process, and whoever ordered it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.pid = start(connection)
        self.process = os.pidfd_open(self.pid)
        connection.sendall(f"{self.pid}\n".encode())

    def descriptors(self) -> list[int]:
        return [self.connection.fileno(), self.process]

    def tell(self) -> None:
        """How it ended, as `waitpid` would have it, and without taking the id from it."""
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        status = ended.si_status << 8 if ended.si_code == os.CLD_EXITED else ended.si_status
        try:
            self.connection.sendall(f"{status}\n".encode())
        except OSError:  # nobody wants to know
            pass

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.process)
        self.connection.close()


def start(connection: socket.socket) -> int:
    order = json.loads(connection.makefile().readline())
    pid = os.fork()
    if pid == 0:
        run(order)
    return pid


def run(order: dict[str, Any]) -> NoReturn:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    files = [os.open(os.devnull, os.O_RDONLY), os.open(order["out"], flags), os.open(order["err"], flags)]
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = ["assistant", *order["arguments"]]
    sys.exit(assistant())


if __name__ == "__main__":
    serve(sys.argv[1])
