"""A client of the container runtime interface (CRI) of Kubernetes, as far as the test needs it: what the kubelet asks of
containerd. Debian has no crictl; messages are encoded by hand (protocol buffers, runtime.v1).

usage: cri.py SOCKET METHOD [JSON]    prints the answer's fields by number, as JSON

In JSON, a message is an object whose keys are the numbers of its fields; text is a string, a number a varint, a list a
repeated field.
"""
import json
import sys

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


def main():
    socket, method, text = (sys.argv + ["{}"])[1:4]
    service = "ImageService" if "Image" in method else "RuntimeService"
    with grpc.insecure_channel("unix://" + socket) as channel:
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
