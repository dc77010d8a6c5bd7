#!/usr/bin/env python3
"""No object of the library runs code before main.   objects_test.py READELF CXX LIBRARY..."""

import os
import re
import subprocess
import sys
import tempfile
import unittest

READELF, CXX, *LIBRARIES = sys.argv[1:]
sys.argv[1:] = []


def initialisers(archive):
    """Each object that has something called before main or after it, and the section that says so."""
    found, name = [], archive
    listing = subprocess.run([READELF, "-SW", archive], check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in listing.splitlines():
        name = line[6:] if line.startswith("File: ") else name
        if section := re.search(r"\s\.((?:pre)?init_array|fini_array|ctors|dtors)\b", line):
            found.append(f"{name}: {section[1]}")
    return found


class objects(unittest.TestCase):
    def test_no_global_constructors(self):
        found = {os.path.basename(library): initialisers(library) for library in LIBRARIES}
        self.assertGreater(len(found), 6)
        self.assertEqual({}, {library: names for library, names in found.items() if names})

    def test_the_check_can_fail(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, text, want in [
                ("bad", "#include <string>\nstd::string name{__FILE__};\n", True),
                ("attribute", "__attribute__((constructor)) void f() {}\n", True),
                ("good", "#include <string>\nauto f() { static std::string s{__FILE__}; return s; }\n", False),
            ]:
                with self.subTest(name):
                    path = os.path.join(folder, name)
                    with open(path + ".cpp", "w", encoding="utf-8") as file:
                        file.write(text)
                    subprocess.run([CXX, "-std=c++20", "-c", path + ".cpp", "-o", path + ".o"], check=True)
                    self.assertEqual(bool(initialisers(path + ".o")), want)


if __name__ == "__main__":
    unittest.main()
