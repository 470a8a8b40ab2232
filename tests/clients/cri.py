"""A client of the container runtime interface (CRI) of Kubernetes, as far as the test needs it: what the kubelet asks of
containerd. Debian has no crictl; messages are encoded by hand (protocol buffers, runtime.v1).

usage: cri.py SOCKET METHOD [JSON]    prints the answer's fields by number, as JSON
       cri.py SOCKET forward POD PORT    as `kubectl port-forward`: sends standard input there, prints what comes back

In JSON, a message is an object whose keys are the numbers of its fields; text is a string, a number a varint, a list a
repeated field.
"""
import base64
import json
import os
import socket
import struct
import sys
import urllib.parse

import grpc


def varint(n):
    out = b""
    while True:
        n, low = n >> 7, n & 0x7F
        if not n:
            return out + bytes([low])
        out += bytes([low | 0x80])


def encode(message):
    out = b""
    for number, value in message.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, int):
                out += varint(int(number) << 3) + varint(item)
                continue
            data = item.encode() if isinstance(item, str) else encode(item)
            out += varint(int(number) << 3 | 2) + varint(len(data)) + data
    return out


def take(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def decode(data):
    """The fields; what is no message is text. ValueError or IndexError when it is none."""
    fields, at = {}, 0
    while at < len(data):
        key, at = take(data, at)
        if key & 7 == 0:
            value, at = take(data, at)
        elif key & 7 == 2:
            length, at = take(data, at)
            if at + length > len(data):
                raise ValueError
            part, at = data[at : at + length], at + length
            try:
                text = part.decode()
                plain = all(c.isprintable() or c in "\n\r\t" for c in text)
            except UnicodeDecodeError:
                plain = False
            if plain:
                value = text
            else:
                try:
                    value = decode(part)
                except (ValueError, IndexError):
                    value = part.hex()
        else:
            raise ValueError
        fields.setdefault(str(key >> 3), []).append(value)
    return fields


class WebSocket:
    """A connection of RFC 6455, as far as containerd's streaming server needs it."""

    def __init__(self, url, protocol):
        parts = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=30)
        self.socket.sendall(
            f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {protocol}\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\nOrigin: http://localhost\r\n\r\n".encode()
        )
        self.data = b""
        while b"\r\n\r\n" not in self.data:
            self.fill()
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        if b" 101 " not in head.splitlines()[0]:
            sys.exit(head.decode())

    def fill(self):
        more = self.socket.recv(65536)
        if not more:
            raise EOFError
        self.data += more

    def take(self, count):
        while len(self.data) < count:
            self.fill()
        part, self.data = self.data[:count], self.data[count:]
        return part

    def send(self, data):
        mask = os.urandom(4)
        length = bytes([0x80 | len(data)]) if len(data) < 126 else struct.pack("!BH", 0xFE, len(data))
        self.socket.sendall(b"\x82" + length + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

    def receive(self):
        """A message; EOFError at the end."""
        kind, length = self.take(2)
        if length == 126:
            (length,) = struct.unpack("!H", self.take(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.take(8))
        message = self.take(length)
        if kind & 15 == 8:
            raise EOFError
        return message


def forward(channel, pod, port):
    call = channel.unary_unary(
        "/runtime.v1.RuntimeService/PortForward",
        request_serializer=encode,
        response_deserializer=decode,
    )
    url = call({"1": pod, "2": [int(port)]}, timeout=60)["1"][0]
    # Channel 0 carries data, 1 errors; the first message of each names the port again.
    stream = WebSocket(f"{url}?port={port}", "v4.channel.k8s.io")
    stream.send(b"\0" + sys.stdin.buffer.read())
    seen = set()
    try:
        while message := stream.receive():
            number, data = message[0], message[1:]
            if number not in seen:
                seen.add(number)
            elif number == 0:
                sys.stdout.buffer.write(data)
            elif data:
                sys.exit(data.decode())
    except (EOFError, TimeoutError):
        pass


def main():
    address, method, text = (sys.argv + ["{}"])[1:4]
    service = "ImageService" if "Image" in method else "RuntimeService"
    with grpc.insecure_channel("unix://" + address) as channel:
        if method == "forward":
            return forward(channel, *sys.argv[3:5])
        call = channel.unary_unary(
            f"/runtime.v1.{service}/{method}",
            request_serializer=encode,
            response_deserializer=decode,
        )
        try:
            print(json.dumps(call(json.loads(text), timeout=60)))
        except grpc.RpcError as error:
            sys.exit(f"{error.code().name}: {error.details()}")


main()
