"""WebSockets on Python's websockets (any version from 10 on).

    python3 websocket.py serve PORT            sends every message back
    python3 websocket.py talk URL [REFUSED]    a client; REFUSED is answered 403 instead of 101
    python3 websocket.py hold URL SECONDS      one WebSocket: a line for each message, then how it ended
"""

import asyncio
import os
import sys

import websockets

PROTOCOL = "echo.tidegate"


async def echo(socket, _path=None):
    async for message in socket:
        if message == "close me":
            await socket.close(4002, "as asked")
        else:
            await socket.send(message)


async def serve(port):
    async with websockets.serve(
        echo, "127.0.0.1", port, subprotocols=[PROTOCOL], max_size=None
    ):
        await asyncio.Future()


def connect(url):
    return websockets.connect(url, subprotocols=["other", PROTOCOL], max_size=None)


async def ended(socket, code):
    try:
        await asyncio.wait_for(socket.recv(), 10)
        raise AssertionError("a message after the close")
    except websockets.ConnectionClosed:
        assert socket.close_code == code, socket.close_code


async def sizes(url):
    async with connect(url) as socket:
        assert socket.subprotocol in ["other", PROTOCOL], socket.subprotocol
        for size in [0, 1, 125, 126, 65_535, 65_536, 1_000_000]:
            for message in ["é" * (size // 2), os.urandom(size)]:
                await socket.send(message)
                assert await asyncio.wait_for(socket.recv(), 10) == message, size
        pong = await socket.ping()
        await asyncio.wait_for(pong, 10)
        # Longer than a head, a body or an idle connection may take here.
        await asyncio.sleep(3)
        await socket.send("still there")
        assert await asyncio.wait_for(socket.recv(), 10) == "still there"
        await socket.close(4001, "enough")
        assert socket.close_code == 4001, socket.close_code


async def closed_by_server(url):
    async with connect(url) as socket:
        await socket.send("close me")
        await ended(socket, 4002)


async def chat(url, number):
    async with connect(url) as socket:
        for n in range(20):
            await socket.send(f"{number} {n}")
            assert await asyncio.wait_for(socket.recv(), 10) == f"{number} {n}"


async def refused(url):
    try:
        async with connect(url):
            raise AssertionError("switched")
    except websockets.InvalidHandshake as error:
        status = getattr(error, "status_code", None) or error.response.status_code
        assert status == 403, status


async def talk(url, refusing=None):
    await sizes(url)
    await closed_by_server(url)
    await asyncio.gather(*(chat(url, number) for number in range(50)))
    if refusing:
        await refused(refusing)


async def hold(url, seconds):
    """Says something ten times a second until that is over, or the WebSocket is."""
    async with connect(url) as socket:
        for _ in range(int(10 * float(seconds))):
            try:
                await socket.send("tick")
                await asyncio.wait_for(socket.recv(), 10)
            except (websockets.ConnectionClosed, OSError) as error:
                return print("ended", error, flush=True)
            print("tick", flush=True)
            await asyncio.sleep(0.1)
    print("closed", flush=True)


if sys.argv[1] == "serve":
    asyncio.run(serve(int(sys.argv[2])))
elif sys.argv[1] == "hold":
    asyncio.run(hold(*sys.argv[2:]))
else:
    asyncio.run(asyncio.wait_for(talk(*sys.argv[2:]), 60))
