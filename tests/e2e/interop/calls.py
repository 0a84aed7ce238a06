"""gRPC on Python's grpcio, without generated code: messages are bytes.

    python3 calls.py serve ADDRESS NAME [--cert FILE --key FILE]     until it is killed
    python3 calls.py talk ADDRESS --server ADDRESS                   all kinds of calls; --server is past the proxy
    python3 calls.py spread ADDRESS COUNT                            how many each server answered: NAME COUNT
    python3 calls.py count ADDRESS COUNT PAUSE_MS        prints what a stream brings, as it comes
    python3 calls.py call ADDRESS METHOD [TEXT]                      one call: CODE, and the answer or why not

With --ca FILE the client speaks TLS (to localhost), with --server-ca FILE also past the proxy.
"""

import argparse
import hashlib
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc

SERVICE = "tidegate.Calls"
LARGE = 8 * 1024 * 1024
UNLIMITED = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
]
SOON = 20


def same(data):
    return data


def digest(data):
    return hashlib.sha256(data).hexdigest().encode()


class Watch:
    """Whether a call is left before it has ended."""

    def __init__(self, server, context):
        self.left = threading.Event()
        self.ended = False
        self.server = server
        context.add_callback(self.over)

    def over(self):
        if not self.ended:
            self.server.count("left")
        self.left.set()


class Server:
    """What it was asked, and by whom it was left, is told by `Told`."""

    def __init__(self, name):
        self.name = name
        self.serving = True
        self.lock = threading.Lock()
        self.told = {"calls": 0, "waits": 0, "left": 0}

    def count(self, what):
        with self.lock:
            self.told[what] += 1

    def echo(self, request, context):
        self.count("calls")
        asked = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-ask")]
        remaining = context.time_remaining()
        context.send_initial_metadata(
            asked + [("x-server", self.name), ("x-remaining-s", str(remaining and round(remaining, 1)))]
        )
        context.set_trailing_metadata((("x-last", "1"), ("x-last", "2"), ("x-last-bin", bytes(range(256)))))
        return request

    def count_up(self, request, context):
        """COUNT PAUSE_MS [SIZE]: so many messages, each a number, filled up to a size."""
        self.count("calls")
        count, pause_ms, size = ([int(word) for word in request.split()] + [0])[:3]
        watch = Watch(self, context)
        context.send_initial_metadata((("x-server", self.name),))
        for number in range(count):
            if watch.left.wait(pause_ms / 1000):
                return
            yield str(number).encode().ljust(size, b".")
        watch.ended = True

    def sum(self, requests, context):
        self.count("calls")
        messages = list(requests)
        return b"%d %s" % (len(messages), digest(b"".join(messages)))

    def chat(self, requests, context):
        """Each message comes back, and a last one when the client has ended."""
        self.count("calls")
        for message in requests:
            yield message
        yield b"all told"

    def fail(self, request, context):
        code, text = request.decode().split(" ", 1)
        context.set_trailing_metadata((("x-why", "as asked"),))
        context.abort(next(it for it in grpc.StatusCode if it.name == code), text)

    def fail_late(self, request, context):
        yield b"one"
        yield b"two"
        self.fail(request, context)

    def wait(self, request, context):
        """Answers after so many seconds, or is left before."""
        watch = Watch(self, context)
        self.count("waits")
        watch.ended = not watch.left.wait(float(request))
        return b"waited"

    def tell(self, request, context):
        return json.dumps(self.told).encode()

    def set_health(self, request, context):
        self.serving = request == b"SERVING"
        return b""

    def check(self, request, context):
        # grpc.health.v1.HealthCheckResponse: field 1, SERVING = 1, NOT_SERVING = 2.
        return b"\x08\x01" if self.serving else b"\x08\x02"

    def start(self, address, cert, key):
        # Each open stream has a thread.
        server = grpc.server(ThreadPoolExecutor(128), options=UNLIMITED + [("grpc.so_reuseport", 0)])
        unary, streaming = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        methods = {
            "Echo": unary(self.echo),
            "CountUp": streaming(self.count_up),
            "Sum": grpc.stream_unary_rpc_method_handler(self.sum),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
            "Fail": unary(self.fail),
            "FailLate": streaming(self.fail_late),
            "Wait": unary(self.wait),
            "Tell": unary(self.tell),
            "SetHealth": unary(self.set_health),
        }
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(SERVICE, methods),
                grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": unary(self.check)}),
            )
        )
        if cert:
            pair = (open(key, "rb").read(), open(cert, "rb").read())
            server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
        else:
            server.add_insecure_port(address)
        server.start()
        server.wait_for_termination()


class Client:
    """Every call on one channel, which is one connection."""

    def __init__(self, address, ca=None, more=()):
        options = UNLIMITED + list(more)
        if ca:
            credentials = grpc.ssl_channel_credentials(open(ca, "rb").read())
            options.append(("grpc.ssl_target_name_override", "localhost"))
            self.channel = grpc.secure_channel(address, credentials, options)
        else:
            self.channel = grpc.insecure_channel(address, options)

    def method(self, name):
        return f"/{SERVICE}/{name}"

    def unary(self, name):
        return self.channel.unary_unary(self.method(name), same, same)

    def streaming(self, name):
        return self.channel.unary_stream(self.method(name), same, same)

    def gathering(self, name):
        return self.channel.stream_unary(self.method(name), same, same)

    def both(self, name):
        return self.channel.stream_stream(self.method(name), same, same)

    def tell(self):
        return json.loads(self.unary("Tell")(b"", timeout=SOON))


def equal(seen, expected, what):
    assert seen == expected, f"{what}: {seen!r:.300} instead of {expected!r:.300}"


def fails(call, code, what):
    try:
        answer = call()
    except grpc.RpcError as error:
        equal(error.code(), code, f"{what} ({error.details()})")
        return error
    raise AssertionError(f"{what}: {answer!r:.100} instead of {code}")


def eventually(what, check):
    deadline = time.monotonic() + 15
    while not check():
        assert time.monotonic() < deadline, f"not within 15 s: {what}"
        time.sleep(0.02)


def unary(client, server):
    echo = client.unary("Echo")
    for message in [b"", b"hello", os.urandom(100_000), os.urandom(LARGE)]:
        equal(echo(message, timeout=SOON), message, f"{len(message)} bytes")
    for number in range(200):
        message = b"%d" % number
        equal(echo(message, timeout=SOON), message, "one after another")
    equal(echo(b"z" * 100_000, timeout=SOON, compression=grpc.Compression.Gzip), b"z" * 100_000, "packed")


def metadata(client, server):
    sent = [("x-ask", "one"), ("x-ask", "two, three"), ("x-ask-bin", bytes(range(256))), ("x-ask-bin", b"")]
    answer, call = client.unary("Echo").with_call(b"", metadata=sent, timeout=SOON)
    first = [(key, value) for key, value in call.initial_metadata() if key.startswith("x-ask")]
    equal(sorted(first), sorted(sent), "metadata there and back")
    last = [(key, value) for key, value in call.trailing_metadata() if key.startswith("x-last")]
    equal(sorted(last), [("x-last", "1"), ("x-last", "2"), ("x-last-bin", bytes(range(256)))], "at the end")
    remaining = dict(call.initial_metadata())["x-remaining-s"]
    assert SOON - 10 < float(remaining) < SOON + 1, f"the server knows the deadline: {remaining}"


def server_streaming(client, server):
    call = client.streaming("CountUp")(b"2000 0", timeout=SOON)
    equal(list(call), [b"%d" % number for number in range(2000)], "a stream of small messages")
    call = client.streaming("CountUp")(b"3 0 %d" % LARGE, timeout=SOON)
    equal([len(message) for message in call], [LARGE] * 3, "a stream of large messages")
    equal(list(client.streaming("CountUp")(b"0 0", timeout=SOON)), [], "a stream of nothing")
    # What is said comes when it is said, not when all is said.
    began, times = time.monotonic(), []
    for _ in client.streaming("CountUp")(b"4 700", timeout=SOON):
        times.append(time.monotonic() - began)
    assert times[0] < 2.1 and times[3] - times[0] > 0.7, times


def client_streaming(client, server):
    messages = [os.urandom(n * 37 % 20_000) for n in range(1000)]
    expected = b"1000 " + digest(b"".join(messages))
    equal(client.gathering("Sum")(iter(messages), timeout=SOON), expected, "a thousand messages")
    large = [os.urandom(LARGE)] * 2
    equal(client.gathering("Sum")(iter(large), timeout=SOON), b"2 " + digest(b"".join(large)), "large ones")
    equal(client.gathering("Sum")(iter([]), timeout=SOON), b"0 " + digest(b""), "none")


def bidirectional(client, server):
    # Ping-pong: each message is an answer to the one before.
    turn = threading.Semaphore(1)
    said = []

    def ping():
        for number in range(200):
            assert turn.acquire(timeout=SOON)
            yield b"ping %d" % number

    for answer in client.both("Chat")(ping(), timeout=SOON):
        said.append(answer)
        turn.release()
    equal(said, [b"ping %d" % number for number in range(200)] + [b"all told"], "ping-pong")
    # Both at once, more than any window holds.
    messages = [os.urandom(50_000) for _ in range(200)]
    answers = list(client.both("Chat")(iter(messages), timeout=SOON))
    assert answers == messages + [b"all told"], "both at once"


def many_at_once(client, server):
    def one(number):
        message = b"%d " % number * (number % 300)
        equal(client.unary("Echo")(message, timeout=SOON), message, "unary")
        equal(len(list(client.streaming("CountUp")(b"20 1", timeout=SOON))), 20, "stream")
        parts = [message] * 10
        equal(list(client.both("Chat")(iter(parts), timeout=SOON)), parts + [b"all told"], "chat")

    with ThreadPoolExecutor(30) as threads:
        list(threads.map(one, range(150)))


def a_slow_reader_stalls_only_itself(client, server):
    slow = client.streaming("CountUp")(b"400 0 65536", timeout=SOON)
    assert next(slow).startswith(b"0.")
    time.sleep(0.5)
    began = time.monotonic()
    for _ in range(50):
        equal(client.unary("Echo")(b"quick", timeout=SOON), b"quick", "beside a slow one")
    took = time.monotonic() - began
    assert took < 15, f"50 calls beside a stream that is not read took {took:.1f} s"
    equal(sum(1 for _ in slow), 399, "the rest of it")


def deadlines(client, server):
    left = server.tell()["left"]
    began = time.monotonic()
    # Long enough for the server to have begun, also on a busy machine.
    fails(lambda: client.unary("Wait")(b"18", timeout=1.5), grpc.StatusCode.DEADLINE_EXCEEDED, "a deadline")
    assert time.monotonic() - began < 10
    eventually("the server is left", lambda: server.tell()["left"] == left + 1)
    stream = client.streaming("CountUp")(b"100 100", timeout=1.5)
    fails(lambda: list(stream), grpc.StatusCode.DEADLINE_EXCEEDED, "in a stream")
    eventually("and in a stream", lambda: server.tell()["left"] == left + 2)


def cancelled(client, server):
    """Nothing but the client's reset tells these."""
    told = server.tell()
    left, waits = told["left"], told["waits"]
    call = client.unary("Wait").future(b"30")
    eventually("the server has it", lambda: server.tell()["waits"] == waits + 1)
    call.cancel()
    eventually("a unary call is left", lambda: server.tell()["left"] == left + 1)
    stream = client.streaming("CountUp")(b"1000 20")
    next(stream)
    stream.cancel()
    eventually("a stream is left", lambda: server.tell()["left"] == left + 2)
    equal(client.unary("Echo")(b"others go on", timeout=SOON), b"others go on", "after that")


def failures(client, server):
    for code in grpc.StatusCode:
        if code is grpc.StatusCode.OK:
            continue
        for text in ["why not", "", "naïve: 100% – \t\n%41"]:
            what = f"{code.name} {text}"
            error = fails(lambda: client.unary("Fail")(what.encode(), timeout=SOON), code, what)
            equal(error.details(), text, what)
            equal(dict(error.trailing_metadata())["x-why"], "as asked", what)
    stream = client.streaming("FailLate")("NOT_FOUND late".encode(), timeout=SOON)
    equal([next(stream), next(stream)], [b"one", b"two"], "before it fails")
    error = fails(lambda: next(stream), grpc.StatusCode.NOT_FOUND, "after messages")
    equal(error.details(), "late", "after messages")
    fails(lambda: client.unary("Nothing")(b"", timeout=SOON), grpc.StatusCode.UNIMPLEMENTED, "no such method")


def talk(client, server):
    for part in [
        unary,
        metadata,
        server_streaming,
        client_streaming,
        bidirectional,
        many_at_once,
        a_slow_reader_stalls_only_itself,
        deadlines,
        cancelled,
        failures,
    ]:
        began = time.monotonic()
        try:
            part(client, server)
        except grpc.RpcError as error:
            raise AssertionError(f"{part.__name__}: {error.code()}: {error.details()}") from error
        print(f"{part.__name__}: {time.monotonic() - began:.2f} s", flush=True)


def spread(client, count):
    seen = {}
    for _ in range(count):
        _, call = client.unary("Echo").with_call(b"", timeout=SOON)
        name = dict(call.initial_metadata())["x-server"]
        seen[name] = seen.get(name, 0) + 1
    for name in sorted(seen):
        print(name, seen[name])


def count(client, number, pause_ms):
    """The name of the server, its messages, and how the stream ended; each at once on a line."""
    stream = client.streaming("CountUp")(b"%d %d" % (number, pause_ms))
    print(dict(stream.initial_metadata()).get("x-server"), flush=True)
    try:
        for message in stream:
            print(message.decode(), flush=True)
        print("OK", flush=True)
    except grpc.RpcError as error:
        print(error.code().name, error.details(), flush=True)


def call(client, method, text):
    try:
        answer = client.unary(method)(text.encode(), timeout=SOON)
        print("OK", answer.decode())
    except grpc.RpcError as error:
        print(error.code().name, error.details())


def main():
    words = argparse.ArgumentParser()
    words.add_argument("what", choices=["serve", "talk", "spread", "count", "call"])
    words.add_argument("address")
    words.add_argument("rest", nargs="*")
    for option in ["--server", "--ca", "--server-ca", "--cert", "--key"]:
        words.add_argument(option)
    given = words.parse_args()
    if given.what == "serve":
        return Server(given.rest[0]).start(given.address, given.cert, given.key)
    client = Client(given.address, given.ca)
    if given.what == "talk":
        talk(client, Client(given.server, given.server_ca))
    elif given.what == "spread":
        spread(client, int(given.rest[0]))
    elif given.what == "count":
        count(client, int(given.rest[0]), int(given.rest[1]))
    else:
        call(client, given.rest[0], " ".join(given.rest[1:]))


if __name__ == "__main__":
    sys.exit(main())
