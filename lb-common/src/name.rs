// SPDX-License-Identifier: Apache-2.0 OR MIT
//! NAMES: what a service id is called, so that the maps alone can be read by people.

use bytemuck::{Pod, Zeroable};

/// Value of NAMES, 192 bytes, keyed by service id: `namespace/name:port` in UTF-8.
///
/// Three names of 63 characters and two separators fit (RFC 1123 labels); longer text is cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct ServiceName {
    /// The text, padded with zeros.
    pub text: [u8; CAPACITY],
}

impl ServiceName {
    /// From text; cut at a character's boundary if it is too long.
    pub fn new(text: &str) -> Self {
        let mut bytes = [0; CAPACITY];
        let length = text.floor_char_boundary(CAPACITY);
        for (to, from) in bytes.iter_mut().zip(text.as_bytes().iter().take(length)) {
            *to = *from;
        }
        Self { text: bytes }
    }

    /// The text; empty if the bytes are not what an agent writes.
    pub fn as_str(&self) -> &str {
        let bytes = self.text.split(|byte| *byte == 0).next().unwrap_or_default();
        core::str::from_utf8(bytes).unwrap_or_default()
    }
}

/// Size of the text in bytes.
pub const CAPACITY: usize = 192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back() {
        assert_eq!(
            ServiceName::new("kube-system/kube-dns:dns").as_str(),
            "kube-system/kube-dns:dns"
        );
        assert_eq!(ServiceName::new("").as_str(), "");
    }

    #[test]
    fn a_name_that_is_too_long_is_cut_between_characters() {
        let mut text = [b'a'; 193];
        text[191..].copy_from_slice("é".as_bytes());
        let name = ServiceName::new(core::str::from_utf8(&text).unwrap());
        assert_eq!(name.as_str().len(), 191);
    }
}
