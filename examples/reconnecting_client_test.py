"""reconnecting_client_test.py PROGRAM: a server that comes late, closes, resets, and at last says the word."""

import socket
import struct
import subprocess
import sys
import time


def listen(port=0):
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", port))
    server.listen()
    server.settimeout(30)
    return server


# The port is known before anybody listens there: the first attempts are refused.
reserved = socket.socket()
reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
reserved.bind(("127.0.0.1", 0))
port = reserved.getsockname()[1]
client = subprocess.Popen([sys.argv[1], "127.0.0.1", str(port), "goodbye"], stdout=subprocess.PIPE, text=True)
try:
    time.sleep(0.5)
    reserved.close()
    server = listen(port)
    peer, _ = server.accept()
    peer.sendall(b"hello\nhal")
    peer.close()
    peer, _ = server.accept()
    peer.sendall(b"again\n")
    time.sleep(0.2)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    server.close()  # nobody for a while
    time.sleep(0.5)
    server = listen(port)
    peer, _ = server.accept()
    peer.sendall(b"so goodbye then\n")
    said, _ = client.communicate(timeout=30)
finally:
    client.kill()
expected = [
    f"connected to 127.0.0.1:{port}", "up for the first time", "it said: hello", "lost: done",
    f"connected to 127.0.0.1:{port}", "it said: again", "lost: reset",
    f"connected to 127.0.0.1:{port}", "it said: so goodbye then",
]  # fmt: skip
assert said.splitlines() == expected, said
assert client.returncode == 0, client.returncode
