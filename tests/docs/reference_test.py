#!/usr/bin/env python3
"""The reference is written without a warning, and has what it should.   reference_test.py DOXYFILE"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

DOXYFILE = sys.argv.pop(1)
if not shutil.which("doxygen"):
    print("SKIPPED: doxygen is not installed")
    sys.exit(77)


def doxygen(folder, *more):
    """Status and words. Later settings win over those of the file."""
    with open(DOXYFILE, encoding="utf-8") as file:
        settings = file.read() + "\n".join(["", "OUTPUT_DIRECTORY = " + folder, *more, ""])
    done = subprocess.run(["doxygen", "-"], input=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


class reference(unittest.TestCase):
    def test_public_headers(self):
        with tempfile.TemporaryDirectory() as folder:
            status, words = doxygen(folder)
            self.assertEqual((status, words), (0, ""))
            html = os.path.join(folder, "html")
            for name in ("reactor", "transport", "protocol", "relay", "stage__context", "chunk", "testing_1_1sim__reactor"):
                path = os.path.join(html, f"classmidwire_1_1{name}.html")
                self.assertTrue(os.path.exists(path), name)
            with open(os.path.join(html, "classmidwire_1_1transport.html"), encoding="utf-8") as file:
                page = re.sub(r"<[^>]+>", "", file.read())
            self.assertRegex(page, r"Takes the octets, keeps their order", "a member's comment")
            self.assertRegex(page, r"Lifetime\s*from connection_made to connection_lost", "a titled paragraph of a class")
            self.assertNotIn("MIDWIRE_API", page)
            with open(os.path.join(html, "index.html"), encoding="utf-8") as file:
                self.assertIn("A relay with a stage", file.read())

    def test_the_check_can_fail(self):
        with tempfile.TemporaryDirectory() as folder:
            header = os.path.join(folder, "wrong.hpp")
            for text, good in [
                ("/// Adds.\n/// \\param b the one that is not there\nint add(int a);\n", False),
                ("/// Adds.\n/// \\param a the one that is\nint add(int a);\nint silent(int);\n", True),
            ]:
                with open(header, "w", encoding="utf-8") as file:
                    file.write(text)
                status, words = doxygen(os.path.join(folder, "out"), "INPUT = " + header, "USE_MDFILE_AS_MAINPAGE =")
                self.assertEqual(status == 0 and not words, good, words)


if __name__ == "__main__":
    unittest.main()
