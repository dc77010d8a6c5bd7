"""port_forward_test.py PROGRAM: a server that answers behind its client's end, through the forwarder."""
import socket
import subprocess
import sys
import threading

server = socket.create_server(("127.0.0.1", 0))


def serve():
    while True:
        connection, _ = server.accept()
        with connection:
            asked = b""
            while piece := connection.recv(65536):
                asked += piece
            connection.sendall(asked[::-1])


threading.Thread(target=serve, daemon=True).start()
target = f"tcp://127.0.0.1:{server.getsockname()[1]}"
program = subprocess.Popen([sys.argv[1], "tcp://127.0.0.1:0", target], stdout=subprocess.PIPE, text=True)
try:
    line = program.stdout.readline()
    where = line.split(" -> ")[0]
    if line != f"{where} -> {target}\n":
        sys.exit(f"it said {line!r}")
    host, port = where.rsplit(":", 1)
    for size in (1, 100_000, 3_000_000):
        question = bytes(i * 7 % 251 for i in range(size))
        with socket.create_connection((host, int(port)), timeout=30) as client:
            client.sendall(question)
            client.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := client.recv(65536):
                answer += piece
        if answer != question[::-1]:
            sys.exit(f"{size} octets: {len(answer)} came back, or others")
    print("3 connections forwarded, both ways, with their ends")
finally:
    program.kill()
    program.wait()
if subprocess.run([sys.argv[1]], stderr=subprocess.DEVNULL).returncode != 2:
    sys.exit("without arguments it should tell how it is used")
