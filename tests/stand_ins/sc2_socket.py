"""As much of a websocket server (RFC 6455) as one pysc2 client needs, on the standard library."""

import base64
import hashlib
import socket
import struct

_KEY = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # the constant of the RFC's handshake
BINARY, CLOSE, PING, PONG = 2, 8, 9, 10


def accept(listening):
    """Waits for a client and answers its handshake; returns the connection."""
    connection, _ = listening.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(4096)
    lines = request.decode("latin-1").split("\r\n")[1:]
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    digest = hashlib.sha1((headers["sec-websocket-key"] + _KEY).encode()).digest()
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )
    return connection


def receive(connection):
    """The payload of the next message, or None at the end.

    pysc2 sends its binary messages as text, so nothing is made of the kind.
    """
    message = b""
    while True:
        first, second = _exactly(connection, 2)
        length = second & 127
        if length == 126:
            (length,) = struct.unpack(">H", _exactly(connection, 2))
        elif length == 127:
            (length,) = struct.unpack(">Q", _exactly(connection, 8))
        mask = _exactly(connection, 4) if second & 128 else bytes(4)
        payload = _exactly(connection, length)
        key = (mask * (length // 4 + 1))[:length]
        payload = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(
            length, "big"
        )
        kind = first & 15
        if kind == CLOSE:
            send(connection, b"", CLOSE)
            return None
        if kind == PING:
            send(connection, payload, PONG)
        elif kind != PONG:
            message += payload
            if first & 128:
                return message


def send(connection, payload, kind=BINARY):
    n = len(payload)
    if n < 126:
        header = struct.pack(">BB", 128 | kind, n)
    elif n < 1 << 16:
        header = struct.pack(">BBH", 128 | kind, 126, n)
    else:
        header = struct.pack(">BBQ", 128 | kind, 127, n)
    connection.sendall(header + payload)


def _exactly(connection, n):
    data = b""
    while len(data) < n:
        more = connection.recv(n - len(data))
        if not more:
            raise EOFError
        data += more
    return data
