// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the running kernel keeps the addresses of a network namespace: byte offsets from its
//! own BTF (Documentation/bpf/btf.rst). Pure, but for the file that is read.

use std::{fs, io};

use lb_common::namespace::NamespaceLayout;

/// Why the layout is not known.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The kernel was built without BTF, or does not show it.
    #[error("{BTF}: {0}; the kernel needs CONFIG_DEBUG_INFO_BTF")]
    Read(#[from] io::Error),
    /// What is there is no BTF of a kind that is known.
    #[error("{BTF} is no BTF that can be read")]
    Malformed,
    /// A structure or one of its fields is not there.
    #[error("{BTF} has no {structure}.{field}")]
    Missing {
        /// The structure.
        structure: &'static str,
        /// The field.
        field: &'static str,
    },
    /// The kernel lets no program read its memory.
    #[error("the kernel is locked down (confidentiality), so that no program may read its memory")]
    LockedDown,
}

/// The layout of the running kernel.
pub fn namespace_layout() -> Result<NamespaceLayout, BtfError> {
    if lockdown().is_some_and(|mode| mode == CONFIDENTIALITY) {
        return Err(BtfError::LockedDown);
    }
    layout_in(&fs::read(BTF)?)
}

/// How far the kernel is locked down; `None` if that cannot be seen from here.
pub(super) fn lockdown() -> Option<String> {
    chosen(&fs::read_to_string(LOCKDOWN).ok()?)
}

/// The word in brackets, as in `none [integrity] confidentiality`.
fn chosen(modes: &str) -> Option<String> {
    let mut words = modes.split_whitespace();
    words.find_map(|word| Some(word.strip_prefix('[')?.strip_suffix(']')?.to_owned()))
}

/// A BTF blob's two sections.
struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
}

/// One of the structures that are looked for.
struct Wanted {
    name: &'static str,
    fields: &'static [&'static str],
}

fn layout_in(blob: &[u8]) -> Result<NamespaceLayout, BtfError> {
    let btf = Btf::new(blob).ok_or(BtfError::Malformed)?;
    let found = btf.offsets().ok_or(BtfError::Malformed)?;
    let at = |structure: &'static str, field: &'static str| {
        let known = found.iter().find(|(of, name, _)| (*of, *name) == (structure, field));
        known.map(|(.., offset)| *offset).ok_or(BtfError::Missing { structure, field })
    };
    let mut layout = NamespaceLayout {
        socket_net: at("sock_common", "skc_net")?,
        net_cookie: at("net", "net_cookie")?,
        net_devices: at("net", "dev_base_head")?,
        device_list: at("net_device", "dev_list")?,
        device_flags: at("net_device", "flags")?,
        device_ipv4: at("net_device", "ip_ptr")?,
        ipv4_first: at("in_device", "ifa_list")?,
        ipv4_next: at("in_ifaddr", "ifa_next")?,
        ipv4_address: at("in_ifaddr", "ifa_local")?,
        ipv4_scope: at("in_ifaddr", "ifa_scope")?,
        ..NamespaceLayout::default()
    };
    // IPv6 may be a module with a BTF of its own, or not be there at all.
    if let (Ok(addresses), Ok(list)) = (at("inet6_dev", "addr_list"), at("inet6_ifaddr", "if_list"))
    {
        layout.device_ipv6 = at("net_device", "ip6_ptr")?;
        layout.ipv6_addresses = addresses;
        layout.ipv6_list = list;
        layout.ipv6_address = at("inet6_ifaddr", "addr")?;
        layout.ipv6_flags = at("inet6_ifaddr", "flags")?;
    }
    Ok(layout)
}

impl<'a> Btf<'a> {
    fn new(blob: &'a [u8]) -> Option<Self> {
        let (magic, header_len) = (word(blob, 0)? & 0xffff, word(blob, 4)? as usize);
        if magic != MAGIC {
            return None;
        }
        let section = |at: usize| {
            let start = header_len.checked_add(word(blob, at)? as usize)?;
            blob.get(start..start.checked_add(word(blob, at + 4)? as usize)?)
        };
        Some(Self { types: section(8)?, strings: section(16)? })
    }

    /// Structure, field and byte offset of everything that is wanted; the first structure of
    /// a name counts. `None` if the types cannot be read to their end.
    fn offsets(&self) -> Option<Vec<(&'static str, &'static str, u32)>> {
        let mut found: Vec<(&str, &str, u32)> = Vec::new();
        let mut at = 0;
        while at < self.types.len() {
            let (name, properties) = (word(self.types, at)?, word(self.types, at + 4)?);
            let (kind, count) = (properties >> 24 & 0x1f, (properties & 0xffff) as usize);
            let members = at + 12;
            if kind == KIND_STRUCT
                && let Some(wanted) = WANTED.iter().find(|it| self.is_named(name, it.name))
                && found.iter().all(|(structure, ..)| *structure != wanted.name)
            {
                let is_bits = properties >> 31 != 0;
                let fields = self.fields(members, count, is_bits, wanted)?;
                found.extend(fields.into_iter().map(|(field, at)| (wanted.name, field, at)));
            }
            at = members + rest_of(kind, count)?;
        }
        Some(found)
    }

    /// The wanted fields of a structure. Offsets are in bits; with bit fields, in the low 24.
    fn fields(
        &self,
        members: usize,
        count: usize,
        is_bits: bool,
        wanted: &Wanted,
    ) -> Option<Vec<(&'static str, u32)>> {
        let mut found = Vec::new();
        for member in (members..).step_by(12).take(count) {
            let (name, offset) = (word(self.types, member)?, word(self.types, member + 8)?);
            if let Some(field) = wanted.fields.iter().find(|it| self.is_named(name, it)) {
                let bits = if is_bits { offset & 0x00ff_ffff } else { offset };
                found.push((*field, bits / 8));
            }
        }
        Some(found)
    }

    fn is_named(&self, at: u32, name: &str) -> bool {
        let text = self.strings.get(at as usize..).unwrap_or_default();
        text.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }
}

/// The bytes that follow the first 12 of a type; `None` for a kind that is not known.
fn rest_of(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // Pointers, forwards, typedefs, modifiers, functions, floats and type tags.
        2 | 7..=12 | 16 | 18 => 0,
        // Integers, variables and declaration tags.
        1 | 14 | 17 => 4,
        3 => 12,
        // Structures, unions, sections and 64-bit enumerations.
        KIND_STRUCT | 5 | 15 | 19 => count * 12,
        // Enumerations and function prototypes.
        6 | 13 => count * 8,
        _ => return None,
    })
}

/// A 32-bit word, in the byte order of this machine, which is the kernel's.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

const BTF: &str = "/sys/kernel/btf/vmlinux";
/// Documentation/admin-guide/LSM: kernel_lockdown(7).
pub(super) const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
/// The mode in which no program may read the kernel's memory, by bpf_probe_read_kernel or else.
pub(super) const CONFIDENTIALITY: &str = "confidentiality";
const MAGIC: u32 = 0xeb9f;
const KIND_STRUCT: u32 = 4;

const WANTED: [Wanted; 7] = [
    Wanted { name: "sock_common", fields: &["skc_net"] },
    Wanted { name: "net", fields: &["net_cookie", "dev_base_head"] },
    Wanted { name: "net_device", fields: &["dev_list", "flags", "ip_ptr", "ip6_ptr"] },
    Wanted { name: "in_device", fields: &["ifa_list"] },
    Wanted { name: "in_ifaddr", fields: &["ifa_next", "ifa_local", "ifa_scope"] },
    Wanted { name: "inet6_dev", fields: &["addr_list"] },
    Wanted { name: "inet6_ifaddr", fields: &["if_list", "addr", "flags"] },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// A blob with one structure `net` of two fields, after an integer.
    fn blob(kind_of_first: u32) -> Vec<u8> {
        let strings = b"\0int\0net\0net_cookie\0dev_base_head\0";
        let types: [u32; 4 + 3 + 6] =
            [1, kind_of_first << 24, 4, 32, 5, 4 << 24 | 2, 16, 9, 1, 0, 20, 1, 64];
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let length = |section: &[u8]| u32::try_from(section.len()).unwrap();
        let (types_len, strings_len) = (length(&types), length(strings));
        let header = [0x0001_eb9f, 24, 0, types_len, types_len, strings_len];
        let header = header.iter().flat_map(|word: &u32| word.to_ne_bytes());
        header.chain(types).chain(strings.iter().copied()).collect()
    }

    #[test]
    fn fields_are_found_by_their_names() {
        let blob = blob(1);
        let offsets = Btf::new(&blob).unwrap().offsets().unwrap();
        assert_eq!(offsets, [("net", "net_cookie", 0), ("net", "dev_base_head", 8)]);
        let missing = layout_in(&blob).unwrap_err().to_string();
        assert!(missing.contains("no sock_common.skc_net"), "{missing}");
    }

    #[test]
    fn the_lockdown_mode_is_the_word_in_brackets() {
        assert_eq!(chosen("none [integrity] confidentiality\n").as_deref(), Some("integrity"));
        assert_eq!(chosen("none integrity [confidentiality]").as_deref(), Some(CONFIDENTIALITY));
        assert_eq!(chosen("none"), None);
    }

    #[test]
    fn what_cannot_be_read_is_malformed_and_no_panic() {
        let whole = blob(1);
        for bad in [blob(31), Vec::new(), whole[..40].to_vec(), vec![0xff; 64]] {
            assert!(matches!(layout_in(&bad), Err(BtfError::Malformed)));
        }
    }
}
