//! Random streams: one for each (seed, purpose, trial index), so that no generator lives on and a
//! restart changes nothing.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A ChaCha8 stream whose key holds seed, index and purpose themselves; distinct inputs, distinct keys.
///
/// `purpose` has at most 16 bytes: what follows would not count.
pub fn stream(seed: u64, purpose: &str, index: u64) -> Stream {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&index.to_le_bytes());
    for (to, from) in key[16..].iter_mut().zip(purpose.bytes()) {
        *to = from;
    }
    Stream(ChaCha8Rng::from_seed(key))
}

/// A random stream. A test pins its draws: a library's release must not change a sweep.
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number from [0, 1), with 53 random bits.
    pub fn unit(&mut self) -> f64 {
        self.0.random()
    }
}

/// 64-bit FNV-1a (Fowler, Noll, Vo): a stable hash for names and templates, not for secrets.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_seed_purpose_and_index_and_repeat() {
        let first = |seed, purpose, index| stream(seed, purpose, index).bits();
        assert_eq!(first(1, "random", 0), first(1, "random", 0));
        assert_ne!(first(1, "random", 0), first(2, "random", 0));
        assert_ne!(first(1, "random", 0), first(1, "random", 1));
        assert_ne!(first(1, "random", 0), first(1, "grid", 0));
    }

    #[test]
    fn draws_are_these_and_a_number_is_made_of_the_upper_53_of_64_bits() {
        let (mut numbers, mut bits) = (stream(7, "random", 3), stream(7, "random", 3));
        for _ in 0..1000 {
            assert_eq!(numbers.unit(), (bits.bits() >> 11) as f64 / (1_u64 << 53) as f64);
        }
        assert_eq!(stream(7, "random", 3).bits(), 7_009_197_687_686_002_287);
    }

    #[test]
    fn fnv1a_gives_the_published_values() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
