"""message_servers_test.py NAME PROGRAM: real clients for the examples that serve messages (and for echo)."""
import socket
import subprocess
import sys
import time

NAME, PROGRAM = sys.argv[1], sys.argv[2]


class client:
    def __init__(self, where):
        self.socket = socket.create_connection(where, timeout=30)
        self.seen = b""

    def send(self, octets):
        self.socket.sendall(octets)

    def line(self):
        """The next line, without its end; None at the end of the connection."""
        while b"\n" not in self.seen:
            piece = self.socket.recv(65536)
            if not piece:
                return None
            self.seen += piece
        found, self.seen = self.seen.split(b"\n", 1)
        return found.rstrip(b"\r").decode()

    def exactly(self, octets):
        while len(self.seen) < octets:
            piece = self.socket.recv(65536)
            if not piece:
                break
            self.seen += piece
        found, self.seen = self.seen[:octets], self.seen[octets:]
        return found

    def ended(self):
        return self.seen == b"" and self.socket.recv(1) == b""


def same(got, want):
    if got != want:
        raise SystemExit(f"FAILED: {NAME}: got {got!r}, expected {want!r}")


def ask(c, line):
    c.send(line.encode() + b"\r\n")
    return c.line()


def resident(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * 4096


def echo(where, _):
    text = bytes(i * 7 % 251 for i in range(200_000))
    c = client(where)
    for at in range(0, len(text), 1000):
        c.send(text[at : at + 1000])
        same(c.exactly(1000), text[at : at + 1000])
    c.send(b"last")
    c.socket.shutdown(socket.SHUT_WR)
    same(c.exactly(4), b"last")
    same(c.ended(), True)


def key_value_server(where, program):
    c = client(where)
    same(ask(c, "GET a"), "NONE")
    same(ask(c, "SET a one two  three"), "OK")
    same(ask(c, "GET a"), "VALUE one two  three")
    other = client(where)
    same(ask(other, "GET a"), "VALUE one two  three")
    same(ask(other, "SET a"), "OK")
    same(ask(c, "GET a"), "VALUE ")
    same(ask(c, "COUNT"), "COUNT 1")
    same(ask(c, "DEL a"), "OK")
    same(ask(c, "DEL a"), "NONE")
    same(ask(c, "what"), "ERROR no such command")
    same(ask(c, "GET"), "ERROR no name")
    # Several in one piece, one in many.
    c.send(b"SET b 1\nSET c 2\nGET b\nCOU")
    time.sleep(0.05)
    c.send(b"NT\n")
    same([c.line() for _ in range(4)], ["OK", "OK", "VALUE 1", "COUNT 2"])
    # A line that is too long ends its own connection only.
    c.send(b"x" * 20_000 + b"\n")
    same(c.line(), "ERROR line at octet 16384: too long: 16385 octets, at most 16384")
    same(c.ended(), True)
    # Who asks and never reads fills neither the server's memory nor the others' time.
    same(ask(other, "SET big " + "v" * 16_000), "OK")
    before = resident(program.pid)
    greedy = client(where)
    greedy.socket.settimeout(1)
    try:
        for _ in range(100):
            greedy.send(b"GET big\n" * 1000)
    except socket.timeout:
        pass
    time.sleep(0.5)
    same(ask(other, "COUNT"), "COUNT 3")
    grown = resident(program.pid) - before
    if grown > 32 << 20:
        raise SystemExit(f"FAILED: {grown} octets more for a client that does not read")
    same(ask(other, "QUIT"), "BYE")
    same(other.ended(), True)


def chat_server(where, _):
    ada, bob = client(where), client(where)
    for c in (ada, bob):
        same(c.line(), "What is your name?")
    same(ask(ada, "two words"), "One word of at most 30 letters, please.")
    same(ask(ada, "ada"), "Here: ada")
    same(ask(bob, "ada"), "Somebody here is called that.")
    same(ask(bob, "bob"), "Here: ada bob")
    same(ada.line(), "bob has come")
    ada.send(b"hello, all\r\nand \x1b[2Jonce more\n")
    same([bob.line(), bob.line()], ["ada: hello, all", "ada: and [2Jonce more"])
    same(ask(bob, "/who"), "Here: ada bob")
    carl = client(where)
    same(carl.line(), "What is your name?")
    same(ask(carl, "carl"), "Here: ada bob carl")
    same([ada.line(), bob.line()], ["carl has come"] * 2)
    carl.socket.close()
    same([ada.line(), bob.line()], ["carl has left"] * 2)
    bob.send(b"/quit\n")
    same(bob.ended(), True)
    same(ada.line(), "bob has left")


def adder_server(where, _):
    def framed(payload):
        body = bytes([len(payload)]) + payload
        check = 0
        for octet in body:
            check ^= octet
        return body + bytes([check])

    c = client(where)
    c.send(framed(b"\0\0\0\5") + framed(b"\0\0\1\0"))
    for want in (5, 261):
        answer = framed(want.to_bytes(8, "big"))
        same(c.exactly(len(answer)), answer)
    c.send(b"\1a\0")
    same(c.exactly(3), framed(b"E"))
    same(c.ended(), True)


program = subprocess.Popen([PROGRAM], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
try:
    said = program.stdout.readline().rsplit(" ", 1)
    same(said[0], f"{NAME} on")
    host, port = said[1].rsplit(":", 1)
    globals()[NAME]((host, int(port)), program)
    same(program.poll(), None)
finally:
    program.kill()
    program.wait()
print("1 passed, 0 failed")
