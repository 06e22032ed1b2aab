"""The two hashes of swissdb, written from section 4.1 of format.md alone."""

import struct

WORD = (1 << 64) - 1


def siphash13(k0, k1, data):
    v0, v1 = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D
    v2, v3 = k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573

    def turn(x, bits):
        return (x << bits | x >> (64 - bits)) & WORD

    def sip_round():
        nonlocal v0, v1, v2, v3
        v0 = (v0 + v1) & WORD
        v1 = turn(v1, 13) ^ v0
        v0 = turn(v0, 32)
        v2 = (v2 + v3) & WORD
        v3 = turn(v3, 16) ^ v2
        v0 = (v0 + v3) & WORD
        v3 = turn(v3, 21) ^ v0
        v2 = (v2 + v1) & WORD
        v1 = turn(v1, 17) ^ v2
        v2 = turn(v2, 32)

    padded = data + bytes(7 - len(data) % 8) + bytes([len(data) & 0xFF])
    for (m,) in struct.iter_unpack("<Q", padded):
        v3 ^= m
        sip_round()
        v0 ^= m
    v2 ^= 0xFF
    for _ in range(3):
        sip_round()
    return v0 ^ v1 ^ v2 ^ v3


RAPID = [
    0x2D358DCCAA6C78A5, 0x8BB84B93962EACC9, 0x4B33A62ED433D4A3, 0x4D5A2DA51DE1AA47,
    0xA0761D6478BD642F, 0xE7037ED1A0B428DB, 0x90ED1765281C388C,
]


def mix(a, b):
    product = a * b
    return product & WORD ^ product >> 64


def rapid_secrets(k0):
    def premix(x, i):
        x ^= mix(x ^ RAPID[2], RAPID[i])
        for mask, bit in ((0xFFFF << 48, 63), (0xFFFF << 24, 31), (0xFFFF, 0)):
            if x & mask == 0:
                x |= 1 << bit
        return x

    secrets = [premix(premix(k0, 0), 0)]
    for i in range(1, 7):
        secrets.append(premix(secrets[-1], i))
    return secrets


def rapidhash3(seed, s, data):
    n = z = len(data)
    a = b = p = 0

    def r8(i):
        return int.from_bytes(data[i : i + 8], "little")

    def r4(i):
        return int.from_bytes(data[i : i + 4], "little")

    if n > 16:
        if n > 112:
            t = [seed] * 7
            while z > 112:
                t = [mix(r8(p + 16 * j) ^ s[j], r8(p + 16 * j + 8) ^ t[j]) for j in range(7)]
                p, z = p + 112, z - 112
            seed = t[0] ^ t[1] ^ t[2] ^ t[3] ^ t[4] ^ t[5] ^ t[6]
        for j, m in enumerate((2, 2, 1, 1, 2, 1)):
            if z > 16 * (j + 1):
                seed = mix(r8(p + 16 * j) ^ s[m], r8(p + 16 * j + 8) ^ seed)
        a, b = r8(n - 16) ^ z, r8(n - 8)
    elif n >= 8:
        seed, a, b = seed ^ n, r8(0), r8(n - 8)
    elif n >= 4:
        seed, a, b = seed ^ n, r4(0), r4(n - 4)
    elif n >= 1:
        a, b = data[0] << 45 | data[n - 1], data[n // 2]
    product = (a ^ s[1]) * (b ^ seed)
    return mix(product & WORD ^ 0xAAAAAAAAAAAAAAAA, product >> 64 ^ s[1] ^ z)


def hasher(hash_id, k0, k1):
    """The hash function with that id in the header, under its key."""
    if hash_id == 1:
        return lambda data: siphash13(k0, k1, data)
    secrets = rapid_secrets(k0)
    return lambda data: rapidhash3(k1, secrets, data)


assert siphash13(0x0706050403020100, 0x0F0E0D0C0B0A0908, b"") == 0xABAC0158050FC4DC
assert hasher(2, 3, 5)(b"swissdb") == 0x0F5746B31A7476C3
