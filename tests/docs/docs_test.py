"""docs_test.py SOURCE BIN: runs what the manuals show. `rules` blocks must pass `midwire rules check`; in `console` blocks
the lines behind `$ ` are run, one shell for a block, and print what the block says, where `…` stands for anything (a line
of its own: for any lines)."""
import os
import re
import subprocess
import sys
import tempfile

from blocks import blocks

SOURCE, BIN = sys.argv[1], sys.argv[2]
passed, failed = 0, 0


def run(command, folder):
    env = dict(os.environ, PATH=BIN + os.pathsep + os.environ["PATH"], NO_COLOR="1")
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=60)
    return done.returncode, done.stdout.decode("utf-8", "replace")


def verdict(where, ok, text):
    global passed, failed
    if ok:
        passed += 1
        print(f"ok      {where}")
    else:
        failed += 1
        print(f"FAILED  {where}\n{text}")


def pattern_of(lines):
    """A regex for the expected lines."""
    parts = []
    for line in lines:
        if line.strip() == "…":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(".*".join(re.escape(piece) for piece in line.split("…")) + r"\n")
    return "".join(parts)


for where, text in blocks(SOURCE, "rules"):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "block.rules")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        code, out = run(f"midwire rules check '{path}'", folder)
        verdict(where, code == 0, out)

for where, text in blocks(SOURCE, "console"):
    steps = []
    for line in text.splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], []))
        elif line.startswith("> ") and steps:
            steps[-1] = (steps[-1][0] + "\n" + line[2:], steps[-1][1])
        elif steps:
            steps[-1][1].append(line)
    with tempfile.TemporaryDirectory() as folder:
        for command, expected in steps:
            if command.startswith(("scripts/", "git ")):
                continue  # the gate runs these as they are
            code, out = run(command, folder)
            if out and not out.endswith("\n"):
                out += "\n"
            ok = re.fullmatch(pattern_of(expected), out) is not None
            verdict(f"{where}: {command.splitlines()[0]}", ok, f"printed (status {code}):\n{out}expected:\n" + "\n".join(expected))

print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed or passed == 0 else 0)
