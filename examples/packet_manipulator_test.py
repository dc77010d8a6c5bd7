"""packet_manipulator_test.py PROGRAM: runs the seed program as it is, on its port 8888, with a real client."""
import os
import pty
import socket
import subprocess
import sys
import time


def connect():
    """A connection, once the program listens; nothing after ten seconds."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            return socket.create_connection(("127.0.0.1", 8888), timeout=5)
        except ConnectionRefusedError:
            time.sleep(0.02)
    return None


with socket.socket() as probe:
    if probe.connect_ex(("127.0.0.1", 8888)) == 0:
        sys.exit("port 8888 is in use by another program")

# On a terminal what it prints comes line by line, without waiting for its end.
terminal, inside = pty.openpty()
program = subprocess.Popen([sys.argv[1]], stdout=inside, stdin=subprocess.DEVNULL)
os.close(inside)
failures = []
try:
    client = connect()
    if client is None:
        sys.exit("the seed program does not listen at port 8888")
    client.sendall(b"hello, manipulator")
    printed = b""
    while b"manipulator" not in printed:
        printed += os.read(terminal, 4096)
    if b"hello, manipulator\r\n" not in printed:
        failures.append(f"printed {printed!r}")
    # It closes when its client has ended, and serves the next one.
    client.shutdown(socket.SHUT_WR)
    if client.recv(1) != b"":
        failures.append("the connection did not end after the client's")
    second = connect()
    second.sendall(b"again")
    printed = b""
    while b"again" not in printed:
        printed += os.read(terminal, 4096)
    if program.poll() is not None:
        failures.append("it ended by itself")
finally:
    program.terminate()
    program.wait(10)
for failure in failures:
    print("FAILED:", failure)
print("1 passed, 0 failed" if not failures else "0 passed, 1 failed")
sys.exit(1 if failures else 0)
