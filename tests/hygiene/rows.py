"""The rows of the house: which folder may include which, and what each may take from outside."""

# A row includes what it names here and what those rows include.
MAY_INCLUDE = {
    "base": [],
    "proto": ["base"],
    "wire": ["base"],
    "capture": ["base"],
    "engine/core": ["proto"],
    "fields": ["wire", "proto", "capture"],
    "rules": ["fields", "engine/core"],
    "bridge": ["rules", "engine/core"],
    "engine": ["engine/core"],
    "testing": ["engine"],
    "packets": ["engine", "bridge"],
    "streams": ["engine", "rules"],
    "record": ["streams", "packets"],
    "script": ["streams", "packets"],
    "control": ["script", "record", "streams", "packets"],
    "fleet": ["script", "record", "streams", "packets"],
}

# What <midwire/NAME> outside of all folders stands for.
UMBRELLAS = {"engine.hpp": "engine", "midwire.hpp": "engine+rules"}

# No sockets, files, clocks, threads or entropy in these, nor in any pipeline/ folder.
CORES = ["base", "proto", "wire", "capture", "engine/core", "fields", "rules", "bridge"]

# Third-party headers by the start of their name, and the folders of src and apps that may name them.
THIRD_PARTY = {
    "pcre2": ["rules"],
    "ares": ["engine/names"],
    "openssl/": ["engine/tls"],
    "pcap": ["packets", "capture"],
    "CLI/": ["apps"],
    "spdlog/": ["apps", "streams", "record", "script", "control", "fleet"],
    "fmt/": ["apps", "streams", "record", "script", "control", "fleet"],
    "nlohmann/": ["apps", "streams", "record", "script", "control", "fleet"],
    "lua": ["script"],
    "sqlite3": ["record"],
}

# Headers of the system that a core may not include; a name that ends in / stands for a folder.
IO_HEADERS = [
    "sys/", "netinet/", "arpa/", "net/", "linux/", "unistd.h", "fcntl.h", "poll.h", "netdb.h", "signal.h", "pthread.h",
    "dirent.h", "termios.h", "csignal", "fstream", "iostream", "ostream", "istream", "filesystem", "thread", "mutex",
    "shared_mutex", "condition_variable", "future", "semaphore", "latch", "barrier", "stop_token", "random", "cstdio",
    "stdio.h", "ctime", "time.h",
]  # fmt: skip

# One line of reason each: what a core may include all the same.
IO_HEADER_EXCEPTIONS = {
    ("src/base/address.cpp", "arpa/inet.h"): "inet_ntop and inet_pton turn octets into text: no I/O",
    ("src/base/address.cpp", "netinet/in.h"): "the sizes of their octets",
    ("src/base/assert.cpp", "cstdio"): "says which assertion failed before it aborts",
}

# The same for what a library does not do.
LOUD_EXCEPTIONS = {
    ("src/engine/spawn_child.cpp", "ends the process"): "the child's own, which could not become another program",
}

# Tested in the named file though neither file name nor include tells it. The start of a path stands for all behind it.
TESTED_IN = {
    "src/base/assert.cpp": "tests/base/chunk_test.cpp",
    "src/engine/core/flow_closing.cpp": "tests/engine/flow_test.cpp",
    "src/engine/core/flow_reading.cpp": "tests/engine/flow_test.cpp",
    "src/engine/driver/epoll_": "tests/engine/driver_test.cpp",
    "src/engine/coroutine_loop.cpp": "tests/engine/task_test.cpp",
    "src/engine/spawn_child.cpp": "tests/engine/process_test.cpp",
    "src/engine/core/tls_errc.cpp": "tests/engine/tls_context_test.cpp",
    "src/engine/tls/tls_pem.cpp": "tests/engine/tls_context_test.cpp",
    "src/engine/transport_sending.cpp": "tests/engine/send_file_test.cpp",
    "src/engine/pool.cpp": "tests/engine/transport_test.cpp",
    "src/streams/source/pipeline_builder.cpp": "tests/streams/program_test.cpp",
    "src/streams/source/serve.cpp": "tests/streams/program_test.cpp",
    "src/streams/source/stream_proxy.cpp": "tests/streams/program_test.cpp",
    "src/testing/sim_datagrams.cpp": "tests/engine/datagram_test.cpp",
    "src/testing/sim_network.cpp": "tests/engine/sim_driver_test.cpp",
}
