"""udp_discovery_test.py PROGRAM: two programs announce themselves, a third one finds both."""
import socket
import subprocess
import sys

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    probe.bind(("", 0))
    port = str(probe.getsockname()[1])

announcers = []
try:
    for name in ("printer", "scanner"):
        announcer = subprocess.Popen([sys.argv[1], "announce", name, port], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        announcers.append(announcer)
        if announcer.stdout.readline() != f"announcing {name}\n".encode():
            error = announcer.stderr.read().decode()
            if "cannot join" in error:
                print("SKIPPED: no multicast on the loopback here:", error)
                sys.exit(0)
            sys.exit("it did not start: " + error)
    found = subprocess.run([sys.argv[1], "find", port], stdout=subprocess.PIPE, timeout=30, check=True).stdout.decode()
    print(found, end="")
    lines = sorted(found.splitlines())
    expected = [f"here is {name} at 127.0.0.1:{port}" for name in ("printer", "scanner")]
    if lines != expected:
        sys.exit(f"found {lines}, not {expected}")
    # Who has gone is not found any more.
    announcers[0].kill()
    announcers[0].wait()
    found = subprocess.run([sys.argv[1], "find", port], stdout=subprocess.PIPE, timeout=30, check=True).stdout.decode()
    if found.splitlines() != expected[1:]:
        sys.exit(f"found {found!r} after one had gone")
finally:
    for announcer in announcers:
        announcer.kill()
        announcer.wait()
