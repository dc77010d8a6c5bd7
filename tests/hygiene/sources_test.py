#!/usr/bin/env python3
"""What reviewers forget, over all files of the repository.   sources_test.py ROOT"""

import os
import sys
import unittest

import checks

FOLDERS = ("include", "src", "apps", "tests", "fuzz", "bench", "examples", "cmake", "scripts", "docs", ".ci")
TEXT = (".cpp", ".hpp", ".py", ".txt", ".cmake", ".md", ".rules", ".json")
ROOT = sys.argv.pop(1) if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")


def tree(root):
    """Path to text of every file that people write; fuzz corpora and golden files are octets, not text."""
    found = {}
    for folder in FOLDERS:
        for where, folders, names in os.walk(os.path.join(root, folder)):
            folders[:] = [f for f in folders if f not in ("corpus", "__pycache__", "pcaps")]
            for name in names:
                path = os.path.relpath(os.path.join(where, name), root)
                if name.endswith(TEXT) or "." not in name:
                    with open(os.path.join(root, path), encoding="utf-8") as file:
                        found[path] = file.read()
    for name in ("CMakeLists.txt", "CMakePresets.json", "CHANGELOG.md", "README.md", "LICENSE"):
        if os.path.exists(os.path.join(root, name)):
            with open(os.path.join(root, name), encoding="utf-8") as file:
                found[name] = file.read()
    return found


class sources(unittest.TestCase):
    files = tree(ROOT)

    def test_there_are_files(self):
        self.assertGreater(sum(path.startswith("src/") for path in self.files), 10)

    def test_exceptions_are_of_use(self):
        """An exception for a file or an include that is gone would hide the next fault at that place."""
        for path, header in checks.rows.IO_HEADER_EXCEPTIONS:
            self.assertTrue(f"#include <{header}>" in self.files.get(path, ""), f"{path} does not include <{header}>")
        for part, test in checks.rows.TESTED_IN.items():
            present = any(path.startswith(part) for path in self.files)
            self.assertTrue(present and test in self.files, f"{part} or {test} is gone")


def over_all_files(check):
    def run(self):
        complaints = []
        for path, text in sorted(self.files.items()):
            complaints += [f"{path}:{line}: {what}" for line, what in check(checks.source(path, text, self.files))]
        if complaints:
            self.fail(f"{len(complaints)} complaints\n" + "\n".join(complaints))

    run.__doc__ = check.__doc__
    return run


for each in checks.ALL:
    setattr(sources, "test_" + each.__name__, over_all_files(each))

if __name__ == "__main__":
    unittest.main()
