"""Adds `Authorization` to every request on the way to the gateway, for programs that cannot send it themselves (the
conformance suite has no option for headers). Everything else passes byte for byte and as soon as it comes: answers
are copied unread, `Host` and `Origin` are kept, and a client that hangs up is seen by the gateway at once."""

import asyncio
import threading


class Forwarder:
    """Listens on a free port of loopback, in a thread of its own."""

    def __init__(self, port, bearer):
        self.target, self.bearer = port, bearer
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        threading.Thread(target=self.serve, args=(ready,), daemon=True).start()
        if not ready.wait(10):
            raise RuntimeError("the forwarder does not start")

    def serve(self, ready):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self.connection, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        self.loop.run_forever()

    async def connection(self, reader, writer):
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        ways = [asyncio.create_task(self.requests(reader, back)), asyncio.create_task(copy(there, writer))]
        # One side gone means both: neither a half-open client nor a half-open gateway is kept waiting.
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for end in (writer, back):
            end.close()

    async def requests(self, reader, back):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
            kept = [line for line in head[1:-2] if not line.lower().startswith(b"authorization:")]
            own, theirs = f"localhost:{self.port}".encode(), f"localhost:{self.target}".encode()
            kept = [line.replace(own, theirs) for line in kept]
            kept.append(f"Authorization: Bearer {self.bearer}".encode())
            back.write(b"\r\n".join([head[0], *kept, b"", b""]))
            await back.drain()
            fields = dict(line.lower().split(b":", 1) for line in kept)
            if fields.get(b"transfer-encoding", b"").strip() == b"chunked":
                await chunks(reader, back)
            else:
                await pass_on(reader, back, int(fields.get(b"content-length", b"0")))


async def pass_on(reader, writer, length):
    while length > 0:
        part = await reader.read(min(length, 65536))
        if not part:
            raise asyncio.IncompleteReadError(b"", length)
        length -= len(part)
        writer.write(part)
        await writer.drain()


async def chunks(reader, writer):
    size = None
    while size != 0:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        writer.write(line)
        await pass_on(reader, writer, size + 2)


async def copy(reader, writer):
    while part := await reader.read(65536):
        writer.write(part)
        await writer.drain()
