#!/usr/bin/env python3
"""What `cmake --install` leaves is enough to build on.   package_test.py CMAKE SOURCE BUILD SCRATCH CXX NM

Installs the build, and a build with BUILD_SHARED_LIBS, into SCRATCH, moves the trees, and builds a project of somebody
else's against each: with find_package and with pkg-config.
"""

import os
import re
import shutil
import subprocess
import sys
import unittest

CMAKE, SOURCE, BUILD, SCRATCH, CXX, NM = sys.argv[1:]
sys.argv[1:] = []
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../hygiene"))
import checks  # noqa: E402
import exports  # noqa: E402

# Beside the build it is compared with: the compiler cache then has its objects.
SHARED_BUILD = BUILD.rstrip("/") + "-shared"
PROGRAMS = ("echo", "shout_test", "rules")


def run(*command, cwd=None, fails=False, **more):
    env = {k: v for k, v in os.environ.items() if k not in ("CXXFLAGS", "LDFLAGS", "LD_LIBRARY_PATH", "DESTDIR")}
    done = subprocess.run(command, cwd=cwd, env=dict(env, **more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if (done.returncode != 0) != fails:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-6000:]}")
    return done.stdout


def fresh(*path):
    folder = os.path.join(SCRATCH, *path)
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def install(build, name, *more):
    """Installs, and moves what was installed: nothing in it may know where it was."""
    first, place = fresh(name + "-first"), fresh(name)
    run(CMAKE, "--install", build, "--prefix", first, *more)
    os.rename(first, place)
    return place


def library_folder(prefix):
    for folder, _, names in os.walk(prefix):
        if "midwire-engine.pc" in names:
            return os.path.dirname(folder)
    raise AssertionError("no midwire-engine.pc")


def by_cmake(prefix, name, *options):
    build = fresh(name)
    run(CMAKE, "-S", os.path.join(HERE, "consumer"), "-B", build, "-DCMAKE_PREFIX_PATH=" + prefix,
        "-DCMAKE_CXX_COMPILER=" + CXX, *options)  # fmt: skip
    run(CMAKE, "--build", build, "-j2")
    return build


def by_make(prefix, name):
    build = fresh(name)
    shutil.copytree(os.path.join(HERE, "consumer"), build)
    run("make", "-j2", "CXX=" + CXX, cwd=build, PKG_CONFIG_PATH=os.path.join(library_folder(prefix), "pkgconfig"))
    return build


def public_headers():
    return {os.path.relpath(os.path.join(folder, name), os.path.join(SOURCE, "include"))
            for folder, _, names in os.walk(os.path.join(SOURCE, "include")) for name in names if name.endswith(".hpp")}  # fmt: skip


class static_package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.prefix = install(BUILD, "static")

    def test_headers(self):
        """All of them, and none needs anything private or of the system's."""
        include = os.path.join(self.prefix, "include")
        found = {os.path.relpath(os.path.join(folder, name), include) for folder, _, names in os.walk(include) for name in names}
        self.assertEqual(found, public_headers())
        for name in found:
            with open(os.path.join(include, name), encoding="utf-8") as file:
                text = file.read()
            for included in re.findall(r'^\s*#\s*include\s*(\S+)', text, re.M):
                with self.subTest(header=name, included=included):
                    ours = included.startswith("<midwire/") and included[1:-1] in found
                    self.assertTrue(ours or re.fullmatch(r"<[a-z_]+>", included), "neither ours nor the standard library's")
            self.assertEqual([], list(checks.foreign_types(checks.source("include/" + name, text))))

    def test_documents(self):
        doc = os.path.join(self.prefix, "share/doc/midwire")
        for name in ("LICENSE", "README.md", "CHANGELOG.md", "docs/engine.md"):
            self.assertGreater(os.path.getsize(os.path.join(doc, name)), 100, name)

    def test_program(self):
        self.assertRegex(run(os.path.join(self.prefix, "bin/midwire"), "--version"), r"^midwire \d+\.\d+\.\d+\n$")

    def test_with_find_package(self):
        build = by_cmake(self.prefix, "static-cmake", "-DWITH_RULES=ON")
        for program in PROGRAMS:
            run(os.path.join(build, program))

    def test_with_pkg_config(self):
        build = by_make(self.prefix, "static-make")
        for program in PROGRAMS:
            run(os.path.join(build, program))

    def test_engine_alone(self):
        """One component is enough for who wants no more, and others are not there."""
        prefix = install(BUILD, "engine", "--component", "engine")
        names = os.listdir(library_folder(prefix))
        self.assertIn("libmidwire-engine.a", names)
        self.assertNotIn("libmidwire.a", names)
        self.assertFalse(os.path.exists(os.path.join(prefix, "include/midwire/rules")))
        said = run(CMAKE, "-S", os.path.join(HERE, "consumer"), "-B", fresh("engine-cmake"), "-DCMAKE_PREFIX_PATH=" + prefix, fails=True)
        self.assertIn("midwire has no component testing here", " ".join(said.split()))
        source = os.path.join(HERE, "consumer/echo.cpp")
        flags = run("pkg-config", "--cflags", "--libs", "midwire-engine",
                    PKG_CONFIG_PATH=os.path.join(library_folder(prefix), "pkgconfig")).split()  # fmt: skip
        program = os.path.join(SCRATCH, "engine-echo")
        run(CXX, "-std=c++20", "-o", program, source, *flags)
        run(program)


def exported(library):
    """The symbols with a definition of their own that programs can link to; what every user of a template or an inline
    function makes for itself is weak, and not meant."""
    listing = run(NM, "-D", "--defined-only", "-C", library)
    return [line.split(" ", 2)[2] for line in listing.splitlines() if re.match(r"[0-9a-f]+ [A-Z] ", line) and line.split()[1] not in "WV"]


class shared_package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        run(CMAKE, "-S", SOURCE, "-B", SHARED_BUILD, "-G", "Ninja", "-DBUILD_SHARED_LIBS=ON", "-DMIDWIRE_BUILD_TESTS=OFF",
            "-DMIDWIRE_BUILD_BENCH=OFF", "-DMIDWIRE_WERROR=ON", "-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS_DEBUG=-O1 -g1",
            "-DCMAKE_CXX_COMPILER=" + CXX)  # fmt: skip
        run(CMAKE, "--build", SHARED_BUILD, "-j2")
        cls.prefix = install(SHARED_BUILD, "shared")
        cls.libraries = [os.path.join(library_folder(cls.prefix), f"lib{name}.so") for name in ("midwire-engine", "midwire-testing", "midwire")]

    def test_with_find_package(self):
        build = by_cmake(self.prefix, "shared-cmake", "-DWITH_RULES=ON")
        for program in PROGRAMS:
            path = os.path.join(build, program)
            self.assertRegex(run("ldd", path), r"libmidwire-engine\.so\.\d+\.\d+ => /")
            run(path)

    def test_with_pkg_config(self):
        build = by_make(self.prefix, "shared-make")
        for program in PROGRAMS:
            run(os.path.join(build, program), LD_LIBRARY_PATH=library_folder(self.prefix))
        # What the library needs is its own business.
        private = run("pkg-config", "--libs", "midwire", PKG_CONFIG_PATH=os.path.join(library_folder(self.prefix), "pkgconfig"))
        self.assertNotIn("cares", private)

    def test_program(self):
        program = os.path.join(self.prefix, "bin/midwire")
        self.assertIn("libmidwire.so", run("ldd", program))
        self.assertRegex(run(program, "--version"), r"^midwire ")

    def test_exports_what_headers_promise(self):
        promised = set()
        for header in public_headers():
            with open(os.path.join(SOURCE, "include", header), encoding="utf-8") as file:
                code = exports.readable(checks.blank(file.read()))
            promised.update(name for _, name, there in exports.declared(code) if there)
        self.assertGreater(len(promised), 50)
        seen = set()
        for library in self.libraries:
            symbols = exported(library)
            self.assertGreater(len(symbols), 10, library)
            for symbol in symbols:
                # `midwire::relay::start()`, `typeinfo for midwire::relay`, `midwire::f[abi:cxx11](int)`
                name = re.sub(r"^(?:vtable|VTT|typeinfo|typeinfo name|guard variable|virtual thunk|non-virtual thunk) (?:for|to) ", "", symbol)
                name = re.match(r"(?:operator\(\)|[^(\[])*", name)[0]
                parts = name.split("::")
                here = {"::".join(parts[:n]) for n in range(1, len(parts) + 1)} & promised
                self.assertTrue(here, f"{os.path.basename(library)} exports {symbol}, which no public header declares with MIDWIRE_API")
                seen |= here
        # Interfaces without an own definition have nothing to export.
        self.assertGreater(len(seen), 40)
        for name in ("midwire::reactor", "midwire::relay", "midwire::testing::sim_reactor", "midwire::rules::compile"):
            self.assertIn(name, seen)


if __name__ == "__main__":
    unittest.main()
