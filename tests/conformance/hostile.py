"""A worker without manners: the protocol of format/wire.h by hand, so that it can be broken."""

import array
import mmap
import os
import random
import socket
import struct

MAGIC, VERSION, SLOTS = 0x53574B31, 1, 64
HELLO, WELCOME, REFUSED, READY, FAILED, EXIT = range(1, 7)
MESSAGE = struct.Struct("<6I7Q40s128s1024s")
SUBMISSION = struct.Struct("<4I2Qq24s")
COMPLETION = struct.Struct("<4I2Q")


class Worker:
    def __init__(self, path, replica, key, text=b"hostile", functions=1):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(20)
        self.socket.connect(path)
        self.send(HELLO, replica, key, text=text, functions=functions)
        data, fds, _, _ = socket.recv_fds(self.socket, MESSAGE.size, 4)
        fields = MESSAGE.unpack(data)
        assert fields[2] == WELCOME, fields[-1].rstrip(b"\0")
        (_, _, _, _, self.slots, _, requests_size, answers_size, self.arena, self.first, self.stride, self.big,
         self.big_size) = fields[:13]
        self.requests = mmap.mmap(fds[0], requests_size, mmap.MAP_SHARED, mmap.PROT_READ)
        self.answers = mmap.mmap(fds[1], answers_size)
        self.fds = fds
        self.head = self.tail = self.naps = 0

    def send(self, kind, replica="", key="", magic=MAGIC, text=b"hostile", functions=1):
        self.socket.send(MESSAGE.pack(magic, VERSION, kind, functions, 0, 1, *[0] * 7, replica.encode(), key.encode(), text))

    def u32(self, memory, offset, value=None):
        if value is None:
            return struct.unpack_from("<I", memory, offset)[0]
        struct.pack_into("<I", memory, offset, value & 0xFFFFFFFF)

    def wait(self, seconds=5):
        """The next submission, or None."""
        import select

        while True:
            self.naps += 1
            self.u32(self.answers, 128, self.naps)
            if self.u32(self.requests, 0) != self.head:
                at = 192 + self.head % SLOTS * SUBMISSION.size
                self.head += 1
                self.u32(self.answers, 0, self.head)
                return SUBMISSION.unpack_from(self.requests, at)
            ready, _, _ = select.select([self.fds[2], self.socket], [], [], seconds)
            if self.fds[2] in ready:
                os.read(self.fds[2], 8)
            elif not ready or self.socket in ready:
                return None

    def complete(self, slot, generation, status=0, place=0, length=0, run_ns=0):
        COMPLETION.pack_into(self.answers, 192 + self.tail % SLOTS * COMPLETION.size, slot & 0xFFFFFFFF,
                             generation & 0xFFFFFFFF, status, place, length, run_ns)
        self.tail += 1
        self.u32(self.answers, 64, self.tail)
        os.write(self.fds[3], struct.pack("<Q", 1))

    def answer(self, submission, text=b"ok", status=0):
        slot, generation = submission[0], submission[1]
        begin = self.first + slot * self.stride
        self.answers[begin : begin + len(text)] = text
        self.complete(slot, generation, status, length=len(text))

    def close(self):
        self.socket.close()
        for fd in self.fds:
            os.close(fd)
        self.requests.close()
        self.answers.close()


def misbehave(worker, submission, rng):
    """One of the ways to break the protocol."""
    slot, generation = submission[0], submission[1]
    way = rng.randrange(13)
    if way == 0:  # twice
        worker.answer(submission)
        worker.answer(submission)
    elif way == 1:
        worker.complete(rng.getrandbits(32), generation)
    elif way == 2:
        worker.complete(slot, generation + rng.randint(1, 1000))
    elif way == 3:
        worker.complete((slot + 1) % SLOTS, generation)
    elif way == 4:
        worker.complete(slot, generation, length=rng.choice([65537, 2**40, 2**64 - 1]))
    elif way == 5:
        worker.complete(slot, generation, status=rng.randint(6, 2**32 - 1))
    elif way == 6:
        worker.complete(slot, generation, place=rng.randint(2, 2**32 - 1))
    elif way == 7:
        worker.u32(worker.answers, 64, rng.getrandbits(32))
        os.write(worker.fds[3], struct.pack("<Q", 1))
    elif way == 8:  # scribble over everything
        worker.answers[: worker.first] = rng.randbytes(worker.first)
        os.write(worker.fds[3], struct.pack("<Q", 1))
    elif way == 9:
        worker.socket.send(rng.randbytes(rng.randint(1, 2000)))
    elif way == 10:
        worker.send(rng.choice([HELLO, READY, 99]))
    elif way == 11:
        worker.u32(worker.answers, 0, rng.getrandbits(32))  # claims to have started anything
        worker.complete(slot, generation, length=1)
    else:  # fills the gateway's way to wake it, and makes it block
        import fcntl

        flags = fcntl.fcntl(worker.fds[2], fcntl.F_GETFL)
        fcntl.fcntl(worker.fds[2], fcntl.F_SETFL, flags & ~os.O_NONBLOCK)
        os.write(worker.fds[2], struct.pack("<Q", 2**64 - 2))
        worker.answer(submission)
        worker.u32(worker.answers, 128, 0xFFFFFF)
    return way


if __name__ == "__main__":
    import sys
    import time

    path, replica, key, seed = sys.argv[1:]
    rng = random.Random(int(seed))
    worker = Worker(path, replica, key, functions=5)  # takes batches, it says
    worker.send(READY, functions=5)
    while True:
        submission = worker.wait()
        if submission is None:
            break
        if rng.random() < 0.3:
            misbehave(worker, submission, rng)
            time.sleep(0.05)
        else:
            worker.answer(submission)
