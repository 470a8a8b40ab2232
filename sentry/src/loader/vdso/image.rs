//! The ELF image around the vDSO's code (`elf(5)`): just what the dynamic linkers of C libraries and
//! Go's runtime look at. Symbols have the version `LINUX_2.6`.

use super::code::Code;
use crate::mm::PAGE_SIZE;

const DT_NULL: u64 = 0;
const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_STRSZ: u64 = 10;
const DT_SYMENT: u64 = 11;
const DT_SONAME: u64 = 14;
const DT_VERSYM: u64 = 0x6fff_fff0;
const DT_VERDEF: u64 = 0x6fff_fffc;
const DT_VERDEFNUM: u64 = 0x6fff_fffd;
/// Index of the version `LINUX_2.6`; 1 is the file itself.
const VERSION: u16 = 2;

const SONAME: &str = "linux-vdso.so.1";
const VERSION_NAME: &str = "LINUX_2.6";

/// The hash of `DT_HASH` tables and version definitions.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0u32, |h, byte| {
        let h = (h << 4).wrapping_add(byte.into());
        let high = h & 0xf000_0000;
        (h ^ (high >> 24)) & !high
    })
}

/// A section of the image under construction.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }
    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }
    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }
    /// Adds a section at the next multiple of 8; returns its address.
    fn section(&mut self, section: &Bytes) -> u64 {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        let at = self.0.len() as u64;
        self.0.extend_from_slice(&section.0);
        at
    }
}

/// Names, each once per call.
struct Strings(Vec<u8>);

impl Strings {
    fn add(&mut self, name: &str) -> u32 {
        let at = self.0.len() as u32;
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(0);
        at
    }
}

/// The image: headers and tables in the first page, code behind it; a whole number of pages.
pub fn build(code: Code) -> Vec<u8> {
    const HEADERS: usize = 64 + 2 * 56;
    const STT_FUNC: u8 = 2;
    let mut strings = Strings(vec![0]);
    let (soname, version) = (strings.add(SONAME), strings.add(VERSION_NAME));

    // The function under its own name, and under the short one as a weak alias.
    let names: Vec<(String, u8, u64)> = code
        .functions
        .iter()
        .flat_map(|&(name, at)| [(format!("__vdso_{name}"), 1u8, at), (name.to_string(), 2u8, at)])
        .collect();
    let mut symbols = Bytes(vec![0; 24]);
    let mut versions = Bytes::default();
    versions.u16(0);
    let count = names.len() as u32 + 1;
    let mut chain = Bytes::default();
    chain.u32(1).u32(count).u32(1).u32(0);
    for (i, (name, binding, at)) in names.iter().enumerate() {
        symbols.u32(strings.add(name));
        symbols.0.extend_from_slice(&[binding << 4 | STT_FUNC, 0]);
        // Any section but 0, which would mean undefined.
        symbols.u16(1).u64(PAGE_SIZE + at).u64(0);
        versions.u16(VERSION);
        // One bucket: every symbol leads to the next.
        let next = i as u32 + 2;
        chain.u32(if next < count { next } else { 0 });
    }
    let mut definitions = Bytes::default();
    for (flags, index, name, offset, next) in
        [(1u16, 1u16, SONAME, soname, 28u32), (0, VERSION, VERSION_NAME, version, 0)]
    {
        definitions.u16(1).u16(flags).u16(index).u16(1).u32(hash(name)).u32(20).u32(next);
        definitions.u32(offset).u32(0);
    }

    let mut image = Bytes(vec![0; HEADERS]);
    let hash_at = image.section(&chain);
    let symbols_at = image.section(&symbols);
    let strings_at = image.section(&Bytes(strings.0.clone()));
    let versions_at = image.section(&versions);
    let definitions_at = image.section(&definitions);
    let mut dynamic = Bytes::default();
    for (tag, value) in [
        (DT_SONAME, soname.into()),
        (DT_HASH, hash_at),
        (DT_STRTAB, strings_at),
        (DT_SYMTAB, symbols_at),
        (DT_STRSZ, strings.0.len() as u64),
        (DT_SYMENT, 24),
        (DT_VERSYM, versions_at),
        (DT_VERDEF, definitions_at),
        (DT_VERDEFNUM, 2),
        (DT_NULL, 0),
    ] {
        dynamic.u64(tag).u64(value);
    }
    let dynamic_at = image.section(&dynamic);
    debug_assert!(image.0.len() as u64 <= PAGE_SIZE);
    image.0.resize(PAGE_SIZE as usize, 0);
    image.0.extend_from_slice(code.bytes);
    image.0.resize(image.0.len().next_multiple_of(PAGE_SIZE as usize), 0);
    let size = image.0.len() as u64;

    let mut head = Bytes(b"\x7fELF\x02\x01\x01".to_vec());
    head.0.resize(16, 0);
    // ET_DYN, x86-64, version 1, no entry; two program headers behind this one, no sections.
    head.u16(3).u16(62).u32(1).u64(0).u64(64).u64(0).u32(0);
    head.u16(64).u16(56).u16(2).u16(64).u16(0).u16(0);
    // PT_LOAD of everything, readable and executable; PT_DYNAMIC, readable.
    for (kind, flags, at, len, align) in
        [(1u32, 5u32, 0, size, PAGE_SIZE), (2, 4, dynamic_at, dynamic.0.len() as u64, 8)]
    {
        head.u32(kind).u32(flags).u64(at).u64(at).u64(at).u64(len).u64(len).u64(align);
    }
    if let Some(place) = image.0.get_mut(..head.0.len()) {
        place.copy_from_slice(&head.0);
    }
    image.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::vdso::code;

    #[test]
    fn hashes_as_the_abi_says() {
        // The value that other runtimes have built in for this version.
        assert_eq!(hash("LINUX_2.6"), 0x3ae_75f6);
        assert_eq!(hash("__vdso_clock_gettime"), 0xd35_ec75);
    }

    #[test]
    fn symbols_lie_in_the_code() {
        let code = code::bytes();
        let len = code.bytes.len() as u64;
        assert!(len > 100 && len <= PAGE_SIZE);
        assert!(code.functions.iter().all(|&(_, at)| at < len));
        let image = build(code);
        assert_eq!(image.len() as u64, 2 * PAGE_SIZE);
        assert!(image.starts_with(b"\x7fELF"));
    }
}
