#!/usr/bin/env python3
"""No object of the library runs code before main.   objects_test.py NM CXX LIBRARY..."""

import os
import re
import subprocess
import sys
import tempfile
import unittest

NM, CXX, *LIBRARIES = sys.argv[1:]
sys.argv[1:] = []


def initialisers(archive):
    """Object and symbol of each function that g++ calls before main."""
    listing = subprocess.run([NM, "-A", archive], check=True, stdout=subprocess.PIPE, text=True).stdout
    return [line.split(":", 1)[1] for line in listing.splitlines() if re.search(r"\b_GLOBAL__sub_I_", line)]


class objects(unittest.TestCase):
    def test_no_global_constructors(self):
        found = {os.path.basename(library): initialisers(library) for library in LIBRARIES}
        self.assertGreater(len(found), 2)
        self.assertEqual({}, {library: names for library, names in found.items() if names})

    def test_the_check_can_fail(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, text, want in [
                ("bad", "#include <string>\nstd::string name{__FILE__};\n", True),
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
