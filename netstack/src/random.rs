//! Random numbers and keyed hashes. The entropy is the caller's.

/// Where a stack takes unpredictable numbers from: secrets, ports, probe delays.
pub trait RandomSource: Send + Sync {
    /// 64 bits that a remote party cannot guess.
    fn next_u64(&self) -> u64;
}

/// A secret key for [`siphash`].
pub(crate) type Key = [u64; 2];

/// SipHash-1-3 of a few words. Short, keyed, and good enough that a peer who does not know the key can
/// neither predict a sequence number nor aim at a bucket of a table.
pub(crate) fn siphash(key: Key, words: &[u64]) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    for &w in words {
        v[3] ^= w;
        round(&mut v);
        v[0] ^= w;
    }
    let last = (words.len() as u64) << 59;
    v[3] ^= last;
    round(&mut v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for _ in 0..3 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

/// An address as words for [`siphash`].
pub(crate) fn addr_words(addr: std::net::IpAddr) -> [u64; 2] {
    match addr {
        std::net::IpAddr::V4(a) => [u64::from(u32::from(a)), 4],
        std::net::IpAddr::V6(a) => {
            let bits = u128::from(a);
            [(bits >> 64) as u64, bits as u64]
        }
    }
}

/// The `BuildHasher` of tables whose keys a remote party chooses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyedHash(pub Key);

impl std::hash::BuildHasher for KeyedHash {
    type Hasher = KeyedHasher;

    fn build_hasher(&self) -> KeyedHasher {
        KeyedHasher { key: self.0, state: 0 }
    }
}

/// Chains [`siphash`] over what is written.
#[derive(Debug)]
pub(crate) struct KeyedHasher {
    key: Key,
    state: u64,
}

impl std::hash::Hasher for KeyedHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u16(&mut self, n: u16) {
        self.write_u64(n.into());
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(n.into());
    }

    fn write_u64(&mut self, n: u64) {
        self.state = siphash(self.key, &[self.state, n]);
    }

    fn finish(&self) -> u64 {
        self.state
    }
}
