"""Wrong bytes in the middle of a TCP connection whose checksums are right: what a broken switch or memory does, and what encryption has to notice.

    tamper.py DEVICE PEER_ADDRESS PORT SECONDS      inside the sender's box, as root

Watches what leaves for PORT at PEER_ADDRESS. After each segment with data it sends one more of its own, with wrong bytes in the place of the next right
ones; if it arrives first, the receiver takes it and drops the real bytes as something that it has already. Goes on until the connection ends.
Prints how many wrong segments it sent, and whether it saw the end.
"""

import os
import socket
import struct
import sys
import time

ETH_P_ALL, PACKET_OUTGOING = 0x0003, 4
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
WRONG_BYTES = 64


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Segment:
    """An IPv4 packet with a TCP segment; `None` from `read` for anything else."""

    @staticmethod
    def read(packet):
        if len(packet) < 40 or packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_TCP:
            return None
        found, head = Segment(), (packet[0] & 15) * 4
        found.source, found.target = packet[12:16], packet[16:20]
        found.ports = packet[head:head + 4]
        found.sequence, found.acknowledged = struct.unpack_from("!II", packet, head + 4)
        tcp_head = (packet[head + 12] >> 4) * 4
        found.flags, found.window = packet[head + 13], packet[head + 14:head + 16]
        found.options = packet[head + 20:head + tcp_head]
        # Not the length of what was captured: a short packet has a padded frame.
        found.length = struct.unpack_from("!H", packet, 2)[0] - head - tcp_head
        return found

    @property
    def next(self):
        return (self.sequence + self.length) & 0xFFFFFFFF

    def follower(self, data):
        """The packet that would follow with `data`."""
        head = self.ports + struct.pack("!II", self.next, self.acknowledged) + bytes([(20 + len(self.options)) // 4 << 4, PSH | ACK]) + self.window
        size = len(head) + 4 + len(self.options) + len(data)
        pseudo = self.source + self.target + struct.pack("!BBH", 0, socket.IPPROTO_TCP, size)
        total = checksum(pseudo + head + b"\0\0\0\0" + self.options + data)
        segment = head + struct.pack("!HH", total, 0) + self.options + data
        # The kernel fills in identification and the header's own checksum.
        return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0, 64, socket.IPPROTO_TCP, 0) + self.source + self.target + segment


def main():
    device, address, port, seconds = sys.argv[1], socket.inet_aton(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    watched = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
    watched.bind((device, ETH_P_ALL))
    sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    deadline, sent, victim, is_ended = time.monotonic() + seconds, set(), None, False
    while not is_ended and time.monotonic() < deadline:
        watched.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            packet, place = watched.recvfrom(1 << 16)
        except TimeoutError:
            break
        segment = Segment.read(packet) if place[2] == PACKET_OUTGOING else None
        if not segment or segment.target != address or struct.unpack_from("!H", segment.ports, 2)[0] != port:
            continue
        # The last one that was hit, so that its successor is left in peace.
        if segment.flags & SYN or victim not in (None, segment.ports):
            is_ended = victim is not None
            continue
        if segment.flags & (FIN | RST):
            is_ended = victim == segment.ports
        elif segment.length > 0 and segment.sequence not in sent:
            # What is sent here is seen here, too.
            victim = segment.ports
            sent.add(segment.next)
            sender.sendto(segment.follower(os.urandom(WRONG_BYTES)), (socket.inet_ntoa(address), 0))
    print(f"{len(sent)} {'ended' if is_ended else 'open'}")


if __name__ == "__main__":
    main()
