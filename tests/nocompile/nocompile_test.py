#!/usr/bin/env python3
"""Misuse that the compiler must refuse.   nocompile_test.py COMPILER FLAG...

Each .cpp beside this file says in its first line what the compiler complains of:  // error: REGEX
With MISUSE defined it must not compile, for that reason; without, it must compile.
"""

import glob
import os
import re
import subprocess
import sys
import unittest

COMPILER = sys.argv[1:]
sys.argv[1:] = []
HERE = os.path.dirname(os.path.abspath(__file__))
CASES = sorted(glob.glob(os.path.join(HERE, "*.cpp")))


def complaint(path, *flags):
    """What the compiler says; None when it is content."""
    command, english = [*COMPILER, "-fsyntax-only", *flags, path], dict(os.environ, LC_ALL="C")
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=english)
    return None if run.returncode == 0 else run.stdout


class nocompile(unittest.TestCase):
    def test_there_are_cases(self):
        self.assertGreater(len(CASES), 3)


def case(path):
    def run(self):
        with open(path, encoding="utf-8") as file:
            want = re.fullmatch(r"// error: (.+)\n", file.readline())
        self.assertTrue(want, "the first line is not '// error: REGEX'")
        self.assertIsNone(complaint(path), "the corrected twin does not compile")
        said = complaint(path, "-DMISUSE")
        self.assertIsNotNone(said, "the misuse compiles")
        self.assertTrue(any(re.search(want[1], line) for line in said.splitlines() if "error:" in line), said)

    return run


for each in CASES:
    setattr(nocompile, "test_" + os.path.basename(each)[:-4], case(each))

if __name__ == "__main__":
    unittest.main()
