//! The Internet checksum (RFC 1071).
//!
//! Sums are taken over words in *native* byte order: the folded sum of byte-swapped words is the
//! byte-swapped sum, so a result stored natively is right on the wire without a single swap. Words
//! of 32 bits may be added as they are, because 2^32 = 1 (mod 2^16 - 1).

/// Folds a sum to 16 bits with end-around carry. 0 only for a sum of 0.
#[inline(always)]
pub(crate) const fn fold(sum: u64) -> u16 {
    let (low, carry) = (sum as u32).overflowing_add((sum >> 32) as u32);
    let sum = low.wrapping_add(carry as u32);
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// Sum over the bytes of `N / 4` whole words.
#[inline(always)]
pub(crate) fn words<const N: usize>(bytes: &[u8; N]) -> u64 {
    const { assert!(N.is_multiple_of(4)) };
    let (words, _) = bytes.as_chunks::<4>();
    words
        .iter()
        .map(|w| u64::from(u32::from_ne_bytes(*w)))
        .sum()
}

/// Sum over 20 bytes modulo 2^64 - 1, which is a multiple of 2^16 - 1.
#[inline(always)]
pub(crate) fn twenty(bytes: &[u8; 20]) -> u64 {
    let word = |at| u64::from_ne_bytes(*crate::headers::view::<8, 20>(bytes, at));
    let last = u32::from_ne_bytes(*crate::headers::view(bytes, 16));
    let (sum, carry) = word(0).overflowing_add(word(8));
    let (sum, carry) = sum.carrying_add(u64::from(last), carry);
    sum + u64::from(carry)
}

/// Sum over any number of bytes, an odd last one padded with zero. For the slow path.
pub(crate) fn bytes(bytes: &[u8]) -> u64 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let tail = rest.first().map_or(0, |&b| u16::from_ne_bytes([b, 0]));
    pairs
        .iter()
        .map(|pair| u64::from(u16::from_ne_bytes(*pair)))
        .sum::<u64>()
        + u64::from(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071, section 2: the plain loop, over big-endian words.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn rfc_1071_example() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(words(&data)).to_ne_bytes(), [0xdd, 0xf2]);
        assert_eq!(fold(bytes(&data)).to_ne_bytes(), [0xdd, 0xf2]);
    }

    #[test]
    fn folding_carries_around() {
        assert_eq!(fold(0), 0);
        assert_eq!(fold(0xffff), 0xffff);
        assert_eq!(fold(0x1_0000), 1);
        assert_eq!(fold(u64::from(u32::MAX)), 0xffff);
        assert_eq!(fold(u64::MAX), 0xffff);
        assert_eq!(fold(0xffff_ffff_0000_0001), 1);
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_the_plain_loop(data in proptest::collection::vec(0u8.., 0..200)) {
            proptest::prop_assert_eq!(fold(bytes(&data)).to_ne_bytes(), reference(&data).to_be_bytes());
            if let Some(head) = data.first_chunk::<20>() {
                proptest::prop_assert_eq!(fold(words(head)).to_ne_bytes(), reference(head).to_be_bytes());
            }
        }
    }
}
