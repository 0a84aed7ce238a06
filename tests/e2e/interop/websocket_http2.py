"""WebSockets over HTTP/2 (RFC 8441) on Python's h2 and wsproto.

    python3 websocket_http2.py serve PORT [CERT KEY]                sends every message back
    python3 websocket_http2.py talk URL [REFUSED] [--ca FILE]       a client; REFUSED is answered 403
    python3 websocket_http2.py hold URL SECONDS [--ca FILE]         one WebSocket: a line for each message, then why it ended

URL is http://HOST:PORT/PATH (prior knowledge) or https://… (ALPN). All WebSockets of a client are
streams of one connection.
"""

import argparse
import os
import socket
import ssl
import sys
import threading
import time
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, Pong, TextMessage

PROTOCOL = "echo.tidegate"
SOON = 20
WINDOW = 1 << 20


class Stream:
    """One stream; with `websocket` once it is one."""

    def __init__(self, number):
        self.number = number
        self.headers = None
        self.websocket = None
        self.said = []
        self.part = None
        self.body = b""
        self.closed = None
        self.ended = False
        self.reset = None
        self.to_send = bytearray()
        self.to_end = False

    def status(self):
        return self.headers and int(self.headers[":status"])


class Peer:
    """One side of a connection of HTTP/2. What is received is dealt with by `pump`."""

    def __init__(self, sock, is_client):
        self.sock = sock
        self.is_client = is_client
        config = h2.config.H2Configuration(client_side=is_client, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        settings = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: WINDOW}
        if not is_client:
            settings[h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL] = 1
        self.h2.local_settings = h2.settings.Settings(is_client, settings)
        self.streams = {}
        self.settled = False
        self.gone = False
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(WINDOW)
        self.flush()

    def flush(self):
        for stream in self.streams.values():
            while stream.to_send and stream.reset is None:
                room = min(self.h2.local_flow_control_window(stream.number), self.h2.max_outbound_frame_size)
                if room <= 0:
                    break
                self.h2.send_data(stream.number, bytes(stream.to_send[:room]))
                del stream.to_send[:room]
            if stream.to_end and not stream.to_send and stream.reset is None:
                self.h2.end_stream(stream.number)
                stream.to_end = False
        # Not as impatient as a look at what has come.
        self.sock.settimeout(SOON)
        self.sock.sendall(self.h2.data_to_send())

    def pump(self, limit):
        """Waits for bytes, at most so many seconds, and deals with them."""
        self.sock.settimeout(limit)
        try:
            data = self.sock.recv(65_536)
        except (TimeoutError, socket.timeout):
            return
        except OSError:
            data = b""
        if not data:
            self.gone = True
            return
        for event in self.h2.receive_data(data):
            self.on(event)
        self.flush()

    def on(self, event):
        number = getattr(event, "stream_id", None)
        stream = self.streams.get(number)
        if isinstance(event, h2.events.RemoteSettingsChanged):
            self.settled = True
        elif isinstance(event, h2.events.RequestReceived):
            self.streams[number] = stream = Stream(number)
            self.asked(stream, dict(event.headers), bool(event.stream_ended))
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.gone = True
        elif stream is None:
            pass
        elif isinstance(event, h2.events.ResponseReceived):
            stream.headers = dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            if event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, number)
            if stream.websocket and event.data:
                stream.websocket.receive_data(event.data)
                for said in stream.websocket.events():
                    self.heard(stream, said)
            else:
                stream.body += event.data
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset):
            stream.reset = event.error_code

    def heard(self, stream, said):
        if isinstance(said, Message):
            stream.part = said.data if stream.part is None else stream.part + said.data
            if said.message_finished:
                stream.said.append(bytes(stream.part) if isinstance(said, BytesMessage) else str(stream.part))
                stream.part = None
                self.whole(stream, stream.said[-1])
        elif isinstance(said, Ping):
            self.say(stream, said.response())
        elif isinstance(said, Pong):
            stream.said.append(("pong", bytes(said.payload)))
        elif isinstance(said, CloseConnection):
            stream.closed = said.code
            if stream.websocket.state.name == "REMOTE_CLOSING":
                self.say(stream, said.response())
            stream.to_end = True

    def say(self, stream, event):
        stream.to_send += stream.websocket.send(event)
        self.flush()

    # What differs on the two sides.

    def asked(self, stream, headers, ended):
        raise AssertionError("a client was asked")

    def whole(self, stream, message):
        pass


class Server(Peer):
    def asked(self, stream, headers, ended):
        if headers.get(":protocol") != "websocket" or headers[":method"] != "CONNECT":
            self.h2.send_headers(stream.number, [(":status", "426"), ("content-length", "2")])
            self.h2.send_data(stream.number, b"no", end_stream=True)
        elif headers[":path"] == "/refused":
            self.h2.send_headers(stream.number, [(":status", "403")], end_stream=True)
        else:
            assert headers["sec-websocket-version"] == "13", headers
            answer = [(":status", "200")]
            if PROTOCOL in headers.get("sec-websocket-protocol", ""):
                answer.append(("sec-websocket-protocol", PROTOCOL))
            self.h2.send_headers(stream.number, answer)
            stream.websocket = Connection(ConnectionType.SERVER)

    def whole(self, stream, message):
        if message == "close me":
            self.say(stream, CloseConnection(4002, "as asked"))
        elif isinstance(message, str):
            self.say(stream, TextMessage(message))
        else:
            self.say(stream, BytesMessage(message))


class Client(Peer):
    def __init__(self, url, ca=None):
        url = urlsplit(url)
        self.scheme, self.authority = url.scheme, url.netloc
        sock = socket.create_connection((url.hostname, url.port), SOON)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if url.scheme == "https":
            context = ssl.create_default_context(cafile=ca)
            context.set_alpn_protocols(["h2"])
            sock = context.wrap_socket(sock, server_hostname="localhost")
            assert sock.selected_alpn_protocol() == "h2", sock.selected_alpn_protocol()
        super().__init__(sock, True)
        self.until("settings", lambda: self.settled)
        assert self.h2.remote_settings.enable_connect_protocol == 1, "extended CONNECT is offered"

    def until(self, what, check, limit=SOON):
        deadline = time.monotonic() + limit
        while not check():
            assert not self.gone, f"the connection has ended: {what}"
            assert time.monotonic() < deadline, f"not within {limit} s: {what}"
            self.pump(0.1)

    def ask(self, headers, end):
        number = self.h2.get_next_available_stream_id()
        self.streams[number] = stream = Stream(number)
        self.h2.send_headers(number, headers, end_stream=end)
        self.flush()
        return stream

    def connect(self, path):
        return self.ask(
            [
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", self.scheme),
                (":authority", self.authority),
                (":path", path),
                ("sec-websocket-version", "13"),
                ("sec-websocket-protocol", f"other, {PROTOCOL}"),
                ("origin", "http://x.test"),
            ],
            end=False,
        )

    def open(self, path):
        stream = self.connect(path)
        self.until("an answer", lambda: stream.headers)
        self.opened(stream)
        return stream

    def opened(self, stream):
        assert stream.status() == 200, stream.headers
        assert stream.headers.get("sec-websocket-protocol") in ["other", PROTOCOL], stream.headers
        for name in ["upgrade", "connection", "sec-websocket-accept", "transfer-encoding"]:
            assert name not in stream.headers, stream.headers
        stream.websocket = Connection(ConnectionType.CLIENT)
        # What came with the head.
        stream.websocket.receive_data(stream.body)
        for said in stream.websocket.events():
            self.heard(stream, said)

    def talk(self, stream, message):
        said = len(stream.said)
        kind = TextMessage if isinstance(message, str) else BytesMessage
        self.say(stream, kind(message))
        self.until("an echo", lambda: len(stream.said) > said or stream.reset is not None)
        assert stream.reset is None and stream.said[-1] == message, (stream.reset, len(message))

    def close(self, stream, code):
        self.say(stream, CloseConnection(code, "enough"))
        self.until("a close", lambda: stream.closed is not None and stream.ended)
        assert stream.closed == code, stream.closed
        self.flush()


def sizes(client, path):
    stream = client.open(path)
    for size in [0, 1, 125, 126, 65_535, 65_536, 1_000_000]:
        for message in ["é" * (size // 2), os.urandom(size)]:
            client.talk(stream, message)
    client.say(stream, Ping(b"hello"))
    client.until("a pong", lambda: ("pong", b"hello") in stream.said)
    # Longer than a head, a body or an idle connection may take here.
    time.sleep(3)
    client.talk(stream, "still there")
    client.close(stream, 4001)


def closed_by_server(client, path):
    stream = client.open(path)
    client.say(stream, TextMessage("close me"))
    client.until("a close", lambda: stream.closed is not None and stream.ended)
    assert stream.closed == 4002, stream.closed


def many(client, path):
    streams = [client.connect(path) for _ in range(50)]
    client.until("all answers", lambda: all(stream.headers for stream in streams))
    for stream in streams:
        client.opened(stream)
    for turn in range(20):
        for stream in streams:
            client.say(stream, TextMessage(f"{stream.number} {turn}"))
    client.until("all echoes", lambda: all(len(stream.said) == 20 for stream in streams))
    for stream in streams:
        assert stream.said == [f"{stream.number} {turn}" for turn in range(20)], stream.said
    # One is reset and one is closed: the others go on.
    client.h2.reset_stream(streams[0].number, 8)
    client.flush()
    client.close(streams[1], 1000)
    for stream in streams[2:]:
        client.talk(stream, "after that")
    for stream in streams[2:]:
        client.close(stream, 1000)


def beside(client, path):
    """A request like any other, on the same connection."""
    stream = client.open(path)
    headers = [(":method", "GET"), (":scheme", client.scheme), (":authority", client.authority), (":path", path)]
    other = client.ask(headers, end=True)
    client.until("a response", lambda: other.ended)
    assert other.status() == 426, other.headers
    client.talk(stream, "beside it")
    client.close(stream, 1000)


def refused(client, path):
    stream = client.connect(path)
    client.until("an answer", lambda: stream.ended or stream.reset is not None)
    assert stream.status() == 403, (stream.headers, stream.reset)


def hold(client, path, seconds):
    """Says something ten times a second until that is over, or the WebSocket is."""
    stream = client.open(path)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            client.talk(stream, "tick")
        except (AssertionError, OSError, h2.exceptions.ProtocolError) as error:
            return print("ended", error, flush=True)
        print("tick", flush=True)
        time.sleep(0.1)
    client.close(stream, 1000)
    print("closed", flush=True)


def serve(port, files):
    context = None
    if files:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*files)
        context.set_alpn_protocols(["h2"])
    listener = socket.create_server(("127.0.0.1", port), backlog=128)

    def talk(sock):
        try:
            peer = Server(context.wrap_socket(sock, server_side=True) if context else sock, False)
            while not peer.gone:
                peer.pump(None)
        except OSError:
            pass

    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=talk, args=[sock], daemon=True).start()


def main():
    words = argparse.ArgumentParser()
    words.add_argument("what", choices=["serve", "talk", "hold"])
    words.add_argument("to")
    words.add_argument("rest", nargs="*")
    words.add_argument("--ca")
    given = words.parse_args()
    if given.what == "serve":
        return serve(int(given.to), given.rest)
    client, path = Client(given.to, given.ca), urlsplit(given.to).path
    if given.what == "hold":
        return hold(client, path, float(given.rest[0]))
    for part in [sizes, closed_by_server, many, beside]:
        part(client, path)
    for url in given.rest:
        refused(client, urlsplit(url).path)


if __name__ == "__main__":
    sys.exit(main())
