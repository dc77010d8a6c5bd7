"""twisted_echo.py server PORT | twisted_echo.py client PORT CONNS SIZE SECS"""

import resource
import sys
import time

from twisted.internet import epollreactor

epollreactor.install()
from twisted.internet import protocol, reactor  # noqa: E402


class Echo(protocol.Protocol):
    def connectionMade(self):
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data):
        self.transport.write(data)


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Asker(protocol.Protocol):
    answered = 0

    def connectionMade(self):
        self.transport.setTcpNoDelay(True)
        self.ask()

    def ask(self):
        self.missing = len(request)
        self.transport.write(request)

    def dataReceived(self, data):
        self.missing -= len(data)
        if self.missing == 0:
            Asker.answered += 1
            self.ask()


def measure(length):
    began, used, before = time.monotonic(), cpu(), Asker.answered

    def end():
        done = Asker.answered - before
        print('{"per_s": %.0f, "cpu_us_each": %.3f}' % (done / (time.monotonic() - began), (cpu() - used) * 1e6 / done), flush=True)
        reactor.stop()

    reactor.callLater(length, end)


port = int(sys.argv[2])
if sys.argv[1] == "server":
    here = reactor.listenTCP(port, protocol.Factory.forProtocol(Echo), 4096, "127.0.0.1")
    print("listening on 127.0.0.1:%d" % here.getHost().port, flush=True)
else:
    request = b"x" * int(sys.argv[4])
    for _ in range(int(sys.argv[3])):
        reactor.connectTCP("127.0.0.1", port, protocol.ClientFactory.forProtocol(Asker))
    length = float(sys.argv[5])
    reactor.callLater(length / 4 if length < 1.6 else 0.4, measure, length)
reactor.run()
