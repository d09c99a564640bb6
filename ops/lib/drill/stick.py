"""Holds one thread of a process, and none of the others: what a driver, a deadlock or a bad disk does to a thread that computes.

    stick.py PID THREAD_NAME SECONDS      as root, in the process's own PID namespace

Prints "stuck" when the thread stands, and "free" when it goes on; it goes on, too, when this program ends in any other way.
"""

import ctypes
import os
import sys
import time

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WALL = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def ask(request, thread):
    if libc.ptrace(request, thread, None, None) != 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x} of thread {thread}: {os.strerror(ctypes.get_errno())}")


def thread_called(pid, name):
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/comm") as comm:
            if comm.read().strip() == name:
                return int(thread)
    raise OSError(f"process {pid} has no thread that is called {name}")


def main():
    pid, name, seconds = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    thread = thread_called(pid, name)
    ask(PTRACE_SEIZE, thread)
    ask(PTRACE_INTERRUPT, thread)
    os.waitpid(thread, WALL)
    print("stuck", flush=True)
    time.sleep(seconds)
    ask(PTRACE_DETACH, thread)
    print("free", flush=True)


if __name__ == "__main__":
    main()
