#!/usr/bin/env python3
"""Dumps the entries of a closed swissdb store, and checks every byte it passes.

Written from format.md alone, in another language and without the library, to
prove that the document is complete. The numbers in brackets are its sections,
I1 to I19 its invariants.

    independent_reader.py DIRECTORY [--table NAME] [--quiet]

Prints one JSON object a line, {"key": ..., "value": ...}, with key_b64 or
value_b64 in place of bytes that are not UTF-8. Exit status: 0 all is well,
1 the store is damaged, 2 it could not be read (absent, or not closed).
"""

import argparse
import base64
import collections
import json
import mmap
import os
import re
import struct
import sys
from zlib import crc32

from independent_hash import hasher

BLOCK = 4096
EMPTY, DELETED = 0b1000_0000, 0b1111_1110
SPILLED = 0x8000
NAME = re.compile(rb"[A-Za-z0-9_-]{1,64}")
LOG_NAME = re.compile(r"([0-9]{8}|[1-9][0-9]{8,})\.log")


class Damage(Exception):
    """Bytes that the format does not allow."""


class Unreadable(Exception):
    """Not damage, but not something this reader reads either."""


def check(holds, where, what):
    if not holds:
        raise Damage(f"{where}: {what}")


def zero(data, begin, end, where):
    check(not any(data[begin:end]), where, f"bytes {begin} to {end - 1} should be zero")


# The log [5]

LogFile = collections.namedtuple("LogFile", "data salt previous previous_end last_commit")


def read_log_file(path, number):
    check(os.path.getsize(path) >= BLOCK, path, "shorter than its first block")
    with open(path, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    magic, version, stored, salt, reserved, size, crc = struct.unpack_from("<8sIIIIQI", data)
    check(magic == b"swisslog", path, "not a log file")
    check(crc == crc32(data[:32]), path, "checksum of the header")
    if version != 1:
        raise Unreadable(f"{path} has format version {version}; this reader knows 1")
    check(stored == number, path, "number differs from that of its name")  # I17
    check(salt != 0 and reserved == 0, path, "salt or reserved field")
    check(size == len(data) and size % BLOCK == 0, path, "size differs from that in the header")
    check(2 * BLOCK <= size <= BLOCK + (1 << 30), path, "size out of range")
    zero(data, 36, 512, path)
    zero(data, 544, BLOCK, path)
    magic, previous, end, last, salt_again, crc = struct.unpack_from("<8sIIQII", data, 512)
    if magic != b"activate" or salt_again != salt or crc != crc32(data[512:540]):
        return None  # prepared, not part of the log
    return LogFile(data, salt, previous, end, last)


def read_log(directory):
    """All activated files by number, and where the log ends in each [5.1, 5.3]."""
    files, ends = {}, {}
    for name in sorted(os.listdir(directory)):
        match = LOG_NAME.fullmatch(name)
        if match:
            number = int(match[1])
            file = read_log_file(os.path.join(directory, name), number)
            if file:
                files[number] = file
    successors = {}
    for number in sorted(files):
        check(files[number].previous < number, f"log file {number}", "previous file")
        successors[files[number].previous] = number
    for number, file in files.items():
        where = f"log file {number}"
        offset, commit = walk_records(file, where)
        following = files.get(successors.get(number))
        if following:
            stated = following.previous_end, following.last_commit
            if offset < stated[0] or commit < stated[1]:
                raise Damage(f"{where}: the records end at {offset} with commit {commit}, "
                             f"the next file says {stated}")
            offset, commit = stated
        ends[number] = offset, commit
    return files, ends


def walk_records(file, where):
    """Checks the records of a file; where they end, and the last commit [5.2]."""
    data, offset, commit = file.data, BLOCK, file.last_commit
    while offset + 24 <= len(data):
        crc, length, number, _ = struct.unpack_from("<IIQQ", data, offset)
        if not 24 <= length <= min(1 << 30, len(data) - offset) or number != commit + 1:
            break
        if crc != crc32(memoryview(data)[offset + 4 : offset + length], file.salt ^ offset):
            break
        check_operations(data, offset + 24, offset + length, f"{where}, commit {number}")
        commit, offset = number, offset + (length + 7) // 8 * 8
    return offset, commit


def check_operations(data, at, end, where):
    while at < end:
        check(at + 12 <= end, where, "operation overruns its record")
        kind, one, _, key, two, value = struct.unpack_from("<BBHHHI", data, at)
        if not 1 <= kind <= 5:
            raise Unreadable(f"{where}: operation of kind {kind}")
        check(one == two == 0, where, "reserved bytes of an operation")
        check(key <= 32767 and value <= (1 << 30) - 65536, where, "lengths of an operation")
        check(kind in (1, 3) or value == 0, where, "value of an operation that has none")
        check(kind != 3 or (key, value) == (0, 16), where, "new hash key of a clear")
        at += 12 + key + value
    check(at == end, where, "operations overrun their record")


# The table file [3]

Header = collections.namedtuple(
    "Header",
    "magic version table payload hash state clean depth name_length reserved_22 k0 k1 self_test "
    "capacity used growth_left segments generation log_file log_salt log_offset reserved_100 "
    "log_commit root_block root_blocks root_crc live_count map_block map_blocks map_crc "
    "file_blocks next_table clears",
)
HEADER = struct.Struct("<8sIHHBBBBHHQQQQQQQQIIIIQIIIIIIIIII")
assert HEADER.size == 152


def read_header(data, where):
    check(len(data) == BLOCK, where, "truncated")
    h = Header(*HEADER.unpack_from(data))
    check(h.magic == b"swissdb\0", where, "not a table file")
    check(struct.unpack_from("<I", data, 4092)[0] == crc32(data[:4092]), where, "checksum")
    if h.version != 1:
        raise Unreadable(f"{where}: format version {h.version}; this reader knows 1")
    if h.hash not in (1, 2):
        raise Unreadable(f"{where}: hash {h.hash}; this reader knows 1 and 2")
    check(h.payload % 8 == 0 and 24 <= h.payload <= 504, where, "slot payload")
    check(h.state in (1, 2, 3) and h.clean in (0, 1), where, "state or clean")
    check(h.depth <= 23, where, "root depth")
    check(h.reserved_22 == h.reserved_100 == 0, where, "reserved fields")
    zero(data, 152, 256, where)
    zero(data, 320, 4092, where)
    name = data[256 : 256 + h.name_length]
    check(h.name_length <= 64 and NAME.fullmatch(name), where, "name")
    zero(data, 256 + h.name_length, 320, where)
    check((h.table == 0) == (name == b"default"), where, "table id")
    check((1 <= h.next_table <= 1 << 16) if h.table == 0 else h.next_table == 0, where, "next id")
    check(h.log_file and h.log_salt and h.log_offset % 8 == 0, where, "log position")
    slots = BLOCK // (64 + 8 * h.payload) * 8
    check(1 <= h.segments <= 1 << 32 and h.capacity % slots == 0, where, "segments or capacity")
    check(h.segments * slots <= h.capacity <= 16 * h.segments * slots, where, "capacity")
    check(h.used + h.growth_left <= h.capacity // 8 * 7, where, "used and growth left")
    need = (8 << h.depth) + 16 * h.live_count
    check(h.root_blocks == -(-need // BLOCK), where, "root blocks")
    check(h.map_blocks == -(-h.file_blocks // (8 * BLOCK)), where, "free map blocks")
    check(h.file_blocks <= 1 << 30, where, "file blocks")
    return h, name.decode()


class Table:
    """One table file, read top down: each block checked by its parent's checksum."""

    def __init__(self, path, logs):
        self.path, self.logs = path, logs
        self.file = open(path, "rb")
        self.reached = set()
        self.live = collections.Counter()
        copies = [self.file.read(BLOCK), self.file.read(BLOCK)]
        self.header, self.name = read_header(copies[0], f"{path}, header copy 0")
        read_header(copies[1], f"{path}, header copy 1")
        if not self.header.clean:
            raise Unreadable(f"{path} was not closed; open and close the store first")
        check(copies[0] == copies[1], path, "the header copies differ")  # I1
        check(os.path.basename(path) == self.name + ".swiss", path, "name")
        h = self.header
        self.hash = hasher(h.hash, h.k0, h.k1)
        check(self.hash(b"swissdb") == h.self_test, path, "hash self-test")  # I2
        self.group_size = 64 + 8 * h.payload
        self.groups_per_page = BLOCK // self.group_size

    def blocks(self, first, count, what):
        """The bytes of blocks that must not be reached twice (I14)."""
        for block in range(first, first + count):
            inside = 2 <= block < self.header.file_blocks
            check(inside and block not in self.reached, f"{self.path}, block {block}", what)
            self.reached.add(block)
        self.file.seek(first * BLOCK)
        data = self.file.read(count * BLOCK)
        check(len(data) == count * BLOCK, self.path, "truncated")
        return data

    def entries(self):
        """All entries; the sums are checked when the last one was taken."""
        h, sums = self.header, collections.Counter()
        root = self.blocks(h.root_block, h.root_blocks, "of the root")
        check(crc32(root) == h.root_crc, self.path, "checksum of the root")  # I3
        index = 0
        while index < 1 << h.depth:
            block, crc = struct.unpack_from("<II", root, 8 * index)
            page = self.blocks(block, 1, "of a directory page")
            where = f"{self.path}, directory page in block {block}"
            check(crc32(page) == crc, where, "checksum")  # I4
            depth = page[6]
            check(depth <= h.depth, where, "depth")
            repeat = 1 << (h.depth - depth)
            check(index % repeat == 0, where, "place in the root")
            again = root[8 * index : 8 * (index + repeat)]
            check(again == struct.pack("<II", block, crc) * repeat, where, "entries in the root")
            yield from self.directory_page(page, depth, index << (32 - h.depth), where, sums)
            index += repeat
        live = self.live_bytes(root)
        check(live == self.live, self.path, f"live bytes: {live}, not {self.live}")  # I16
        claim = h.capacity, h.used, h.growth_left, h.segments
        found = tuple(sums[name] for name in ("slots", "used", "growth", "segments"))
        check(claim == found, self.path, f"sums of the header: {claim}, not {found}")  # I13
        self.check_free_map()

    def live_bytes(self, root):
        live, last, at = {}, 0, 8 << self.header.depth
        for _ in range(self.header.live_count):
            file, reserved, count = struct.unpack_from("<IIQ", root, at)
            check(file > last and reserved == 0, self.path, "live bytes in the root")
            live[file], last, at = count, file, at + 16
        zero(root, at, len(root), f"{self.path}, root")
        return {file: count for file, count in live.items() if count}

    def check_free_map(self):
        h = self.header
        data = self.blocks(h.map_block, h.map_blocks, "of the free map")
        check(crc32(data) == h.map_crc, self.path, "checksum of the free map")
        self.reached |= {0, 1}
        for block in range(8 * len(data)):
            free = data[block // 8] >> block % 8 & 1
            expected = block < h.file_blocks and block not in self.reached
            check(free == expected, self.path, f"free map, block {block}")  # I14

    def directory_page(self, page, depth, prefix, where, sums):
        magic, table, _, one, stated, count, two, _, three = struct.unpack_from("<4sHBBIHHQQ", page)
        check(magic == b"SDIR" and table == self.header.table, where, "magic or table id")
        check(one == two == three == 0, where, "reserved bytes")
        check(stated == prefix, where, "prefix")
        at, covered = 32, prefix
        for _ in range(count):
            check(at + 8 <= BLOCK, where, "segment records overrun the page")
            local, pages, used, tombstones, reserved = struct.unpack_from("<BBHHH", page, at)
            check(1 <= pages <= 16 and at + 8 + 8 * pages <= BLOCK, where, "pages of a segment")
            check(reserved == 0 and depth <= local <= depth + 9, where, "local depth")
            span = 1 << (32 - local)
            check(covered % span == 0, where, "range of a segment")  # I5
            refs = struct.unpack_from(f"<{2 * pages}I", page, at + 8)
            refs = list(zip(refs[::2], refs[1::2]))
            yield from self.segment(refs, local, range(covered, covered + span), used, tombstones)
            sums["segments"] += 1
            sums["slots"] += 8 * self.groups_per_page * pages
            sums["used"] += used
            sums["growth"] += 7 * self.groups_per_page * pages - used - tombstones
            at, covered = at + 8 + 8 * pages, covered + span
        check(covered == prefix + (1 << (32 - depth)), where, "the segments do not fill its range")
        zero(page, at, BLOCK, where)

    def segment(self, refs, local, prefixes, used, tombstones):
        groups, keys = [], set()
        for number, (block, crc) in enumerate(refs):
            page = self.blocks(block, 1, "of a segment")
            groups += self.page(page, block, crc, local, number)
        where = f"{self.path}, segment {prefixes[0]:08x} of depth {local}"
        full = deleted = 0
        for group, data in enumerate(groups):
            for slot, control in enumerate(data[:8]):
                here = f"{where}, group {group}, slot {slot}"
                if control < 0x80:
                    key, value = self.entry(data, slot, control, here)
                    hashed = self.hash(key)
                    check(hashed >> 32 in prefixes, here, "hash out of the segment's range")  # I10
                    self.check_hash(data, slot, control, hashed, here)
                    check(on_probe_sequence(groups, hashed, group), here, "not found by lookup")
                    check(key not in keys, here, "the key is there twice")  # I11
                    keys.add(key)
                    full += 1
                    yield key, value
                else:
                    check(control in (EMPTY, DELETED), here, "control byte")  # I8
                    self.check_unused(data, slot, here)
                    deleted += control == DELETED
        check((full, deleted) == (used, tombstones), where, "counts of the segment")  # I12
        check(full + deleted <= 7 * len(groups), where, "too full")

    def page(self, page, block, crc, local, number):
        """The groups of a page [3.5]."""
        where = f"{self.path}, page in block {block}"
        stored = struct.unpack_from("<I", page, 12)[0]
        actual = crc32(page[16:], crc32(bytes(4), crc32(page[:12])))
        check(stored == actual == crc, where, "checksum")  # I6
        record = struct.unpack_from("<HBB", page, 56)
        check(record == (self.header.table, local, number), where, f"page record {record}")  # I7
        size = self.group_size
        groups = [page[i * size : (i + 1) * size] for i in range(self.groups_per_page)]
        for index, group in enumerate(groups):
            zero(group, 8, 12, where)
            if index:
                zero(group, 12, 16, where)
                zero(group, 56, 64, where)
        zero(page, size * len(groups), BLOCK, where)
        return groups

    def slot(self, group, slot):
        key_len, val_len = (struct.unpack_from("<H", group, at + 2 * slot)[0] for at in (16, 32))
        at = 64 + slot * self.header.payload
        return key_len, val_len, group[at : at + self.header.payload]

    def check_unused(self, group, slot, where):
        key_len, val_len, payload = self.slot(group, slot)
        unused = not (key_len or val_len or group[48 + slot] or any(payload))
        check(unused, where, "an unused slot that is not zero")  # I8

    def check_hash(self, group, slot, control, hashed, where):
        check(control == hashed & 0x7F and group[48 + slot] == hashed >> 7 & 0xFF, where, "H2 or fp")
        key_len, val_len, payload = self.slot(group, slot)
        if (key_len | val_len) & SPILLED:
            at = 0 if key_len & SPILLED else (key_len + 7) // 8 * 8
            stored = struct.unpack_from("<Q", payload, at)[0]
            check(stored == hashed, where, "hash of the address")

    def entry(self, group, slot, control, where):
        """Key and value, in the one of four cases that the lengths demand [3.6]."""
        key_len, val_len, payload = self.slot(group, slot)
        room, k = len(payload), key_len & ~SPILLED
        case = (bool(key_len & SPILLED), bool(val_len & SPILLED))
        check(not case[1] or val_len == SPILLED, where, "length of a spilled value")
        if case == (False, False):
            v, end = val_len, k + val_len
            check(end <= room, where, "lengths")
            key, value = payload[:k], payload[k:end]
        elif case == (False, True):
            at = (k + 7) // 8 * 8
            check(k <= room - 24, where, "lengths")
            zero(payload, k, at, where)
            key, value, end = payload[:k], self.spilled(payload, at, where), at + 24
            v = len(value)
        elif case == (True, False):
            v, end = val_len, 24 + val_len
            check(end <= room, where, "lengths")
            key, value = self.spilled(payload, 0, where), payload[24:end]
            check(len(key) == k, where, "length of the key")
        else:
            both, end = self.spilled(payload, 0, where), 24
            check(len(both) >= k, where, "length of key and value")
            key, value = both[:k], both[k:]
            v = len(value)
        zero(payload, end, room, where)
        if k + v <= room:
            due = (False, False)
        elif k <= room - 24:
            due = (False, True)
        else:
            due = (True, v > room - 24)
        check(case == due, where, "spilled otherwise than its lengths demand")  # I9
        return key, value

    def spilled(self, payload, at, where):
        """The bytes an address points to [6]."""
        _, length, crc, number, offset = struct.unpack_from("<QIIII", payload, at)
        files, ends = self.logs
        check(number in files, where, f"address in log file {number}, which is not there")  # I15
        inside = BLOCK <= offset and offset + length <= ends[number][0]
        check(inside, where, f"address {offset} + {length} outside log file {number}")
        data = files[number].data[offset : offset + length]
        check(crc32(data) == crc, where, "checksum of spilled bytes")
        self.live[number] += length
        return data


def on_probe_sequence(groups, hashed, target):
    """Whether a lookup comes to the group before it gives up [4.3]."""
    count, n = len(groups), 1
    while n < count:
        n *= 2
    i = ((hashed >> 7 & ((1 << 25) - 1)) * count) >> 25
    for step in range(1, n + 1):
        if i == target:
            return True
        if i < count and EMPTY in groups[i][:8]:
            return False
        i = (i + step) % n
    return False


def check_store(tables, logs):
    """What holds between tables and log: I18 and I19."""
    files, ends = logs
    check("default" in tables, "the store", "default.swiss is missing")
    check(files, "the log", "no file is activated")
    last = max(files)
    for name, table in tables.items():
        h = table.header
        at_end = h.log_file == last and (h.log_offset, h.log_commit) == ends[last]
        check(at_end and h.log_salt == files[last].salt, table.path, "L is not the end of the log")
        check(h.table < tables["default"].header.next_table, table.path, "table id")
    ids = {table.header.table for table in tables.values()}
    check(len(ids) == len(tables), "the store", "two tables have the same id")


def main():
    parser = argparse.ArgumentParser(description="Dumps a closed swissdb store as JSON Lines.")
    parser.add_argument("directory")
    parser.add_argument("--table", default="default", metavar="NAME")
    parser.add_argument("--quiet", action="store_true", help="check all tables, print nothing")
    arguments = parser.parse_args()
    logs = read_log(os.path.join(arguments.directory, "log"))
    tables = {}
    for name in sorted(os.listdir(arguments.directory)):
        if name.endswith(".swiss"):
            table = Table(os.path.join(arguments.directory, name), logs)
            if table.header.state == 2:
                tables[table.name] = table
    check_store(tables, logs)
    if arguments.quiet:
        for table in tables.values():
            collections.deque(table.entries(), maxlen=0)
        return
    if arguments.table not in tables:
        raise Unreadable(f"there is no table {arguments.table}")
    for key, value in tables[arguments.table].entries():
        line = {}
        for name, data in (("key", key), ("value", value)):
            try:
                line[name] = data.decode()
            except UnicodeDecodeError:
                line[name + "_b64"] = base64.b64encode(data).decode()
        text = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
        sys.stdout.buffer.write(text.encode() + b"\n")


if __name__ == "__main__":
    try:
        main()
    except Damage as damage:
        print(f"damage: {damage}", file=sys.stderr)
        sys.exit(1)
    except (Unreadable, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
