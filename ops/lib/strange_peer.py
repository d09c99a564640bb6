"""Peers that a cluster should not trust: raw libzmq sockets with any key, frames of any bytes. Uses the libzmq that staffel itself needs."""

import ctypes
import ctypes.util
import os
import struct
import time

DEALER, PUSH = 5, 8
LINGER, SNDMORE, DONTWAIT, IMMEDIATE, RECONNECT_IVL = 17, 2, 1, 39, 18
CURVE_PUBLICKEY, CURVE_SECRETKEY, CURVE_SERVERKEY, SNDHWM, HANDSHAKE_IVL = 48, 49, 50, 23, 66
EAGAIN = 11

library = ctypes.CDLL(ctypes.util.find_library("zmq") or "libzmq.so.5", use_errno=True)
for name in ("zmq_ctx_new", "zmq_socket"):
    getattr(library, name).restype = ctypes.c_void_p
library.zmq_socket.argtypes = [ctypes.c_void_p, ctypes.c_int]
library.zmq_setsockopt.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
library.zmq_connect.argtypes = library.zmq_disconnect.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
library.zmq_send.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
library.zmq_recv.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
library.zmq_close.argtypes = [ctypes.c_void_p]
library.zmq_curve_keypair.argtypes = library.zmq_curve_public.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
library.zmq_z85_decode.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
library.zmq_z85_encode.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
library.zmq_z85_encode.restype = library.zmq_z85_decode.restype = ctypes.c_void_p

context = library.zmq_ctx_new()


class Keys:
    """A CURVE key pair: a new one, or that of a secret key of 32 bytes."""

    def __init__(self, secret=None):
        public_text, secret_text = ctypes.create_string_buffer(41), ctypes.create_string_buffer(41)
        if secret is None:
            assert library.zmq_curve_keypair(public_text, secret_text) == 0
        else:
            assert library.zmq_z85_encode(secret_text, secret, 32)
            assert library.zmq_curve_public(public_text, secret_text.value) == 0
        self.public, self.secret = self.bytes(public_text.value), self.bytes(secret_text.value)

    @staticmethod
    def bytes(text):
        raw = ctypes.create_string_buffer(32)
        assert library.zmq_z85_decode(raw, text)
        return raw.raw


class Peer:
    """A socket that connects to `endpoint`, whose owner must have the key `server`; without keys it speaks no CURVE."""

    def __init__(self, endpoint, server=None, keys=None, kind=DEALER):
        self.socket = library.zmq_socket(context, kind)
        assert self.socket, os.strerror(ctypes.get_errno())
        for option, value in ((LINGER, 0), (IMMEDIATE, 1), (RECONNECT_IVL, 50)):
            self.set(option, struct.pack("i", value))
        if keys:
            self.set(CURVE_PUBLICKEY, keys.public)
            self.set(CURVE_SECRETKEY, keys.secret)
            self.set(CURVE_SERVERKEY, server)
        assert library.zmq_connect(self.socket, endpoint.encode()) == 0

    def set(self, option, value):
        assert library.zmq_setsockopt(self.socket, option, value, len(value)) == 0, f"option {option}"

    def send(self, *parts, seconds=0.0):
        """False when nobody takes it within `seconds`: no connection stands."""
        deadline = time.monotonic() + seconds
        for index, part in enumerate(parts):
            more = SNDMORE if index + 1 < len(parts) else 0
            while library.zmq_send(self.socket, part, len(part), more | DONTWAIT) < 0:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(0.002)
        return True

    def receive(self, seconds):
        """The first part of the next message; `None` when none comes."""
        buffer, deadline = ctypes.create_string_buffer(1 << 16), time.monotonic() + seconds
        while True:
            count = library.zmq_recv(self.socket, buffer, len(buffer), DONTWAIT)
            if count >= 0:
                return buffer.raw[:min(count, len(buffer))]
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.002)

    def close(self):
        if self.socket:
            library.zmq_close(self.socket)
        self.socket = None


# Frames: an eight-byte header and protobuf, see proto/staffel.proto.

def varint(number):
    out = bytearray()
    while True:
        out.append(number & 0x7F | (0x80 if number > 0x7F else 0))
        number >>= 7
        if not number:
            return bytes(out)


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def frame(message, kind=1, major=2):
    return b"STFL" + struct.pack("<H", major) + bytes([kind, 0]) + message


VERSION = field(1, field(1, 2) + field(2, 0))
STATUS_QUERY = frame(field(13, b""))
LEAVING = frame(field(10, b""))
ENROLLED = frame(field(1, b""), kind=2)


def enrol(role, key, name=b"stranger"):
    return frame(field(1, VERSION + field(2, role) + field(3, key) + field(4, name)))


def worker_hello(name=b"stranger", memory=1 << 30):
    capabilities = field(1, memory) + field(2, 1) + field(3, b"avx2") + b"".join(
        varint(number << 3 | 1) + struct.pack("<d", 1e10) for number in (4, 5))
    return frame(field(2, VERSION + varint(2 << 3 | 1) + struct.pack("<Q", 77) + field(3, name) + field(4, capabilities)
                       + field(5, b"tcp://127.0.0.1:9") + field(7, 0)))
