# Whether a password gives the NetNTLMv2 line: arguments are the line and the password.
import hashlib, hmac, struct, sys


def md4(data):
    def rot(x, n):
        x &= 0xFFFFFFFF
        return (x << n | x >> (32 - n)) & 0xFFFFFFFF

    bits = len(data) * 8
    data += b"\x80"
    data += b"\0" * ((56 - len(data)) % 64) + struct.pack("<Q", bits)
    state = [0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476]
    rounds = (
        (lambda x, y, z: x & y | ~x & z, 0, range(16), (3, 7, 11, 19)),
        (
            lambda x, y, z: x & y | x & z | y & z,
            0x5A827999,
            (0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15),
            (3, 5, 9, 13),
        ),
        (
            lambda x, y, z: x ^ y ^ z,
            0x6ED9EBA1,
            (0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15),
            (3, 9, 11, 15),
        ),
    )
    for at in range(0, len(data), 64):
        words = struct.unpack("<16I", data[at : at + 64])
        a, b, c, d = state
        for mix, add, order, turns in rounds:
            for n, word in enumerate(order):
                a = rot(a + mix(b, c, d) + words[word] + add, turns[n % 4])
                a, b, c, d = d, a, b, c
        state = [(x + y) & 0xFFFFFFFF for x, y in zip(state, (a, b, c, d))]
    return struct.pack("<4I", *state)


user, _, domain, challenge, proof, blob = sys.argv[1].split(":")
key = md4(sys.argv[2].encode("utf-16le"))
name = (user.upper() + domain).encode("utf-16le")
key = hmac.new(key, name, hashlib.md5).digest()
message = bytes.fromhex(challenge + blob)
print(hmac.new(key, message, hashlib.md5).hexdigest() == proof)
