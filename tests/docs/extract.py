"""extract.py SOURCE OUTDIR: writes the C++ programs of the manuals as OUTDIR/NAME.cpp and prints their names."""
import pathlib
import sys

from blocks import blocks

out = pathlib.Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
names = []
for where, text in blocks(sys.argv[1], "cpp"):
    name = where.replace(".md:", "_").replace("-", "_").replace(".", "_")
    path = out / f"{name}.cpp"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
    # The seed program listens until it is ended: another test runs it, alone on its port.
    names.append(name + (":forever" if "listen_tcp(8888" in text else ""))
print(";".join(names), end="")
