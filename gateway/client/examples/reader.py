#!/usr/bin/env python3
"""A reader at a gate, written from PROTOCOL.md alone: proof that another language can join. It scans one ticket at a time;
a real one would have many under way.

    pip install -r requirements.txt
    python3 reader.py STATE.json 'tapgate:enrol?…'      # the first time: the offer of the office
    python3 reader.py STATE.json                        # from then on

It reads lines, as a scanner types them: a QR, or `tag 04a1b2c3d4e580` for a wristband; `out` before either for an exit.
`again` sends the last command once more, `reconnect` drops the connection. What the steward would see is printed.
"""

import asyncio
import base64
import hashlib
import json
import os
import ssl
import struct
import sys
import time
from uuid import UUID

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.quic.configuration import QuicConfiguration
from aioquic.tls import hkdf_expand_label
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

HELLO, PROOF, ENROL, SCAN, PINNED, BYE = 0x01, 0x02, 0x03, 0x10, 0x13, 0x1F
CHALLENGE, WELCOME, ENROLLED, REFUSE, ANSWER, CONFIRMED, BUSY, NOTICE = 0x81, 0x82, 0x83, 0x84, 0x90, 0x91, 0x92, 0x93
RESENT, DURABLE, FIRST_USE = 1, 1, 2
ADMITTED, EXITED, IN_DOUBT = 200, 201, 41
NEVER_AGAIN = {256, 257, 32, 33, 262}  # bad_version, bad_proof, unknown_device, device_revoked, replaced
SAY = {
    1: "This is not one of our tickets.",
    2: "This ticket has been altered.",
    3: "This ticket was replaced. Please open the newest one in your account.",
    4: "We do not know this ticket.",
    5: "This ticket is for another festival.",
    6: "This ticket has been used already.",
    10: "This ticket is blocked. Please go to the help desk.",
    11: "The festival is not open.",
    14: "This ticket does not include this area.",
    15: "This area is closed.",
    16: "This ticket is inside already.",
    17: "Please enter through the main gate first.",
    18: "This area is full. Please wait.",
    19: "We do not know this wristband.",
    34: "This reader belongs to another gate.",
    121: "This wristband was reported lost. Please go to the help desk.",
}


class Refused(Exception):
    """The server's last word: a code, when to come again, the same in words."""


class State:
    """What a reader keeps on its disk: who it is, whom it trusts, its numbers, what has no final answer."""

    def __init__(self, path, offer):
        self.path, self.device, self.next_pin, self.next_seq, self.pending = path, None, None, 1, None
        if os.path.exists(path):
            with open(path) as file:
                self.__dict__.update(json.load(file))
        else:
            fields = dict(field.split("=", 1) for field in offer.strip().removeprefix("tapgate:enrol?").split("&"))
            self.server, self.pin, self.code = fields["server"], fields["fingerprint"].lower(), fields["code"]
            self.festival, self.key = int(fields["festival"], 16), os.urandom(32).hex()
            self.save()  # the key first: the same key with the same code is the same attempt

    def save(self):
        aside = os.open(self.path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(aside, "w") as file:
            json.dump(self.__dict__, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(self.path + ".new", self.path)


class Connection(QuicConnectionProtocol):
    """aioquic has no TLS exporter, so its secret is taken from the key schedule, at the server's Finished."""

    def connect(self, *args, **kwargs):
        super().connect(*args, **kwargs)
        tls = self._quic.tls
        set_up = tls._setup_traffic_protection

        def listen(direction, epoch, label):
            if label == b"s ap traffic":
                self.exporter = tls.key_schedule.derive_secret(b"exp master")
            return set_up(direction, epoch, label)

        tls._setup_traffic_protection = listen

    def export(self, label, length):
        schedule = self._quic.tls.key_schedule
        kind, nothing = schedule.algorithm, schedule.hash_empty_value
        secret = hkdf_expand_label(kind, self.exporter, label, nothing, kind.digest_size)
        return hkdf_expand_label(kind, secret, b"exporter", nothing, length)

    def shown(self):
        """The fingerprint of the server's key. That the server holds the key, TLS has checked."""
        key = self._quic.tls._peer_certificate.public_key()
        return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def framed(kind, body=b"", flags=0):
    return struct.pack("<HBB", 4 + len(body), kind, flags) + body


def number(command):
    return struct.unpack_from("<Q", command, 4)[0]


class Link:
    """One connection: frames in, frames out."""

    def __init__(self, connection, incoming, outgoing):
        self.connection, self.incoming, self.outgoing = connection, incoming, outgoing

    def send(self, *frames):
        self.outgoing.write(b"".join(frames))  # as many as there are, in one write

    async def next(self):
        length, kind, flags = struct.unpack("<HBB", await self.incoming.readexactly(4))
        body = await self.incoming.readexactly(length - 4)
        if kind == REFUSE:
            code, wait = struct.unpack_from("<HxxI", body)
            raise Refused(code, wait, body[9 : 9 + body[8]].decode())
        if kind == NOTICE:
            say("notice %d: zone %d, state %d" % tuple(body[:3]))
            return await self.next()
        return kind, flags, body

    async def expect(self, wanted):
        kind, _, body = await self.next()
        if kind != wanted:
            raise ConnectionError(f"frame {kind:#x} is out of place")
        return body

    async def stay_awake(self):
        while True:
            await asyncio.sleep(10)
            self.connection._quic.send_ping(0)
            self.connection.transmit()


async def greet(link, state):
    """Enrols if that is to be done, says hello, proves who it is. The zone that it is welcomed to."""
    shown = link.connection.shown()
    if shown not in (state.pin, state.next_pin):
        raise Refused(0, 0, "this is not our server")
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(state.key))
    if state.device is None:
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        link.send(framed(ENROL, struct.pack("<HxxI", 2, state.festival) + public + state.code.encode()))
        state.device, _ = struct.unpack("<Qq", await link.expect(ENROLLED))
        state.save()
        say(f"enrolled as {state.device >> 32:08x}-{state.device & 0xFFFFFFFF}")
    link.send(framed(HELLO, struct.pack("<HxxQ", 2, state.device)))
    nonce = (await link.expect(CHALLENGE))[:32]
    binding = link.connection.export(b"EXPORTER-tapgate-device-proof", 32)
    message = b"tapgate/2 device proof" + nonce + struct.pack("<Q", state.device) + binding
    link.send(framed(PROOF, key.sign(message)))
    welcome = await link.expect(WELCOME)
    _, next_seq, _, _, zone, _, _, pin = struct.unpack_from("<qQIHBBH32s", welcome)
    names, at = [], 58
    while at < len(welcome):
        names.append(welcome[at + 1 : at + 1 + welcome[at]].decode())
        at += 1 + welcome[at]
    state.next_seq = max(state.next_seq, next_seq)
    state.pin, state.next_pin = shown, pin.hex() if any(pin) else None
    state.save()
    if state.next_pin:
        link.send(framed(PINNED, pin))
    say("welcome, {}: {}, {}, into {}".format(*names))
    return zone


def credential(read):
    """What was read, as a frame has it: a wristband, a QR in its printed spelling, or anything else as it is."""
    if read.startswith("tag "):
        return 3, bytes.fromhex(read[4:])
    try:
        qr = json.loads(read)
        ticket = UUID(qr["ticketId"])
        letters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
        code = "".join(letters[ticket.int >> 5 * n & 31] for n in range(8))
        mac = base64.urlsafe_b64decode(qr["hash"] + "=")
        text = base64.urlsafe_b64encode(mac).decode().rstrip("=")
        printed = '{"ticketId":"%s","code":"%s","hash":"%s","version":%d}' % (ticket, code, text, qr["version"])
        if printed == read and len(mac) == 32:
            return 1, ticket.int.to_bytes(16, "little") + struct.pack("<I", qr["version"]) + mac
    except (ValueError, KeyError, TypeError, struct.error):
        pass
    return 2, read.encode()[:513]


def steward(command, flags, body):
    """What is shown at the gate."""
    verdict, _, _, occupancy = struct.unpack_from("<BBBxI", body, 8)
    if verdict in (ADMITTED, EXITED):
        return f"{number(command)} GREEN {'in' if verdict == ADMITTED else 'out'}, {occupancy} inside"
    first = struct.unpack_from("<q", body, 40)[0] if flags & FIRST_USE else None
    since = time.strftime(" First at %H:%M.", time.localtime(first / 1000)) if first else ""
    return f"{number(command)} RED {verdict}: {SAY.get(verdict, 'No.')}{since}"


async def ask(link, command, resent):
    """Sends a command until it has its final answer."""
    seq, early = number(command), None
    while True:
        link.send(command[:3] + bytes([RESENT if resent else 0]) + command[4:])
        while True:
            kind, flags, body = await asyncio.wait_for(link.next(), 10)
            if kind == ANSWER and number(bytes(4) + body) == seq:
                if flags & DURABLE:
                    return flags, body
                early = flags, body  # could be shown now; it is final when it is confirmed
            elif kind == CONFIRMED and early:
                if any(first <= seq < first + count for first, count in struct.iter_unpack("<QI", body)):
                    return early
            elif kind == BUSY and number(bytes(4) + body) == seq:
                wait, rejection = struct.unpack_from("<IB", body, 8)
                resent = resent or rejection == IN_DOUBT
                await asyncio.sleep(wait / 1000)
                break


async def work(link, state, zone, lines, last):
    """Scans what is typed until the lines or the connection end. True if there is nothing more to do."""
    if state.pending:  # what the last connection left without an answer comes first, under its old number
        command = bytes.fromhex(state.pending)
        last.update(command=command, resent=True, answer=await ask(link, command, True))
        state.pending = None
        state.save()
        say(steward(command, *last["answer"]))
    while line := last.get("line") or await lines.get():
        last["line"] = None
        if line == "reconnect":
            return False
        if line == "again":
            last["line"] = line  # also on the next connection, if this one breaks
            answer = await ask(link, last["command"], last["resent"])
            last["line"] = None
            say("again the same answer" if answer == last["answer"] else f"ANOTHER ANSWER: {answer}")
            continue
        kind, read = credential(line.removeprefix("out "))
        seq, now = state.next_seq, int(time.time() * 1000)
        state.next_seq += 1
        # One at a time: nothing below it is open, so the floor is the number itself, 0 below.
        command = framed(SCAN, struct.pack("<QHqBBBB", seq, 0, now, zone, line.startswith("out "), 0, kind) + read)
        state.pending = command.hex()
        state.save()  # before it is sent
        last.update(command=command, resent=False, answer=await ask(link, command, False))
        state.pending = None
        state.save()
        say(steward(command, *last["answer"]))
    link.send(framed(BYE))
    link.outgoing.write_eof()
    await link.incoming.read()  # until the server has ended its side too
    return True


async def main(path, offer=None):
    state, last, lines = State(path, offer), {}, asyncio.Queue()
    loop = asyncio.get_running_loop()
    loop.run_in_executor(None, lambda: [loop.call_soon_threadsafe(lines.put_nowait, line) for line in typed()])
    # No authority is asked: the key is compared, in `greet`, before anything is said.
    tls = QuicConfiguration(alpn_protocols=["tapgate/2"], verify_mode=ssl.CERT_NONE, server_name="tapgate", idle_timeout=30)
    servers, backoff = state.server.split(","), 0.1
    while True:
        # Of several nodes another one each time.
        servers = servers[1:] + servers[:1]
        host, port = servers[-1].rsplit(":", 1)
        try:
            async with connect(host.strip("[]"), int(port), configuration=tls, create_protocol=Connection) as connection:
                link = Link(connection, *await connection.create_stream())
                awake = asyncio.create_task(link.stay_awake())
                try:
                    zone = await greet(link, state)
                    backoff = 0.1
                    if await work(link, state, zone, lines, last):
                        return
                finally:
                    awake.cancel()
        except Refused as no:
            code, wait, text = no.args
            say(f"refused, {code}: {text}")
            if code in NEVER_AGAIN or not wait:
                sys.exit(1)
            await asyncio.sleep(wait / 1000)
        except (OSError, EOFError, asyncio.TimeoutError) as lost:
            say(f"lost the server: {lost!r}")
            await asyncio.sleep(backoff * (0.5 + os.urandom(1)[0] / 512))
            backoff = min(2 * backoff, 30)
        last["resent"] = True


def typed():
    yield from filter(None, (line.strip() for line in sys.stdin))
    yield ""  # the end


def say(text):
    print(text, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
