"""tls_client and tls_echo talk to each other; the client refuses whom it does not know."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

if not shutil.which("openssl"):
    print("SKIPPED: openssl is not installed")
    sys.exit(77)

client, echo = sys.argv[1:]


def made(folder, name, san):
    """A certificate of its own and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        + ["-subj", f"/CN={name}", "-addext", f"subjectAltName={san}", "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    return certificate, key


def said(port, *more):
    done = subprocess.run([client, "localhost", port, "hello", *more], capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout, done.stderr


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    certificate, key = made(folder, "server", "DNS:localhost")
    other, _ = made(folder, "other", "DNS:other.example")
    server = subprocess.Popen([echo, certificate, key], stdout=subprocess.PIPE, text=True)
    try:
        port = server.stdout.readline().strip()
        status, out, err = said(port, certificate)
        assert (status, err) == (0, ""), (status, out, err)
        assert out == "TLS_AES_256_GCM_SHA384, CN=server\nhello\n", out
        for trusted in ([], [other]):
            status, out, err = said(port, *trusted)
            assert status == 1 and out == "", (status, out, err)
            assert "the peer's certificate was rejected" in err, err
        status, _, err = said(port, folder / "none.pem")
        assert status == 1 and "none.pem: No such file" in err, err
    finally:
        server.kill()
    failed = subprocess.run([echo, certificate, certificate], capture_output=True, text=True, timeout=30)
    assert failed.returncode == 1 and "no private key" in failed.stderr, failed.stderr
