// SPDX-License-Identifier: Apache-2.0 OR MIT
//! FNV-1a, 64 bits: the same on every node, in every build and with every compiler, which the
//! standard library's hasher does not promise. For names, not against an adversary.

/// The hash of these bytes.
///
/// <http://www.isthe.com/chongo/tech/comp/fnv/>, draft-eastlake-fnv.
pub fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

/// The hash of nothing.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
/// What each byte multiplies by.
const PRIME: u64 = 0x0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;

    /// Published values. Names in caches, in maps and in the cluster are made of it: it must
    /// never change.
    #[test]
    fn it_is_fnv_1a() {
        let of = |text: &str| fnv1a(text.bytes());
        assert_eq!(of(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(of("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(of("foobar"), 0x8594_4171_f739_67e8);
    }
}
