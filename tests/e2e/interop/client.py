"""A client on Python's http.client.

    python3 client.py HOST:PORT FOLDER

Makes one connection for what comes one after another, then eight at once.
"""

import hashlib
import http.client
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

address, folder = sys.argv[1:3]
small = Path(folder, "small").read_bytes()
large = Path(folder, "large").read_bytes()


def connect():
    return http.client.HTTPConnection(address, timeout=30)


def ask(connection, method, target, body=None, headers={}, **more):
    connection.request(method, target, body, headers, **more)
    response = connection.getresponse()
    return response, response.read()


def post(connection, sent, body, headers={}, **more):
    response, answer = ask(connection, "POST", "/echo", body, headers, **more)
    assert response.status == 200, (response.status, answer)
    seen = json.loads(answer)
    expected = ("POST", len(sent), hashlib.sha256(sent).hexdigest())
    assert (seen["method"], seen["length"], seen["sha256"]) == expected, seen


def one_after_another(connection):
    response, body = ask(connection, "GET", "/small")
    assert (response.status, body) == (200, small)
    response, body = ask(connection, "HEAD", "/small")
    assert (response.status, response.getheader("Content-Length"), body) == (200, "1000", b"")
    post(connection, small, small)
    post(connection, large, large)
    pieces = [large[n : n + 70_001] for n in range(0, len(large), 70_001)]
    post(connection, large, iter(pieces), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    # http.client does not wait for the invitation, and must not take it for the response.
    post(connection, small, small, {"Expect": "100-continue"})
    for target in ["/large", "/chunked"]:
        response, body = ask(connection, "GET", target)
        assert body == large, (target, len(body))
        assert response.chunked == (target == "/chunked"), response.getheaders()
    response, _ = ask(connection, "GET", "/small")
    if etag := response.getheader("ETag"):
        response, body = ask(connection, "GET", "/small", headers={"If-None-Match": etag})
        assert (response.status, body) == (304, b"")
        response, body = ask(connection, "GET", "/large", headers={"Range": "bytes=70000-140000"})
        assert (response.status, body) == (206, large[70_000:140_001])
    response, _ = ask(connection, "GET", "/nothing")
    assert response.status == 404


def many(number):
    connection = connect()
    for n in range(50):
        response, body = ask(connection, "GET", "/small")
        assert (response.status, body) == (200, small)
        sent = small + str((number, n)).encode()
        post(connection, sent, sent)
    connection.close()


connection = connect()
one_after_another(connection)
connection.close()
with ThreadPoolExecutor(8) as threads:
    list(threads.map(many, range(8)))
