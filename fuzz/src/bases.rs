//! The stores that the targets start from.
//!
//! A store chooses its hash keys and salts at random. So that an input does the
//! same today and tomorrow, the bases are files of this package (`fuzz/bases`),
//! written by `cargo run --bin bases` from the recipes of the tests. A file of
//! theirs is a list of the files of the store without their zeros:
//!
//! ```text
//! name length u16 | name | length u64 | pieces u32 | pieces: offset u64, length u32, bytes
//! ```

use std::sync::OnceLock;

use swissdb::storage::Storage;
use swissdb::storage::memory::Memory;

use crate::image::{BLOCK, Image, Part, parts};

/// A store that an input changes.
pub struct Base {
    pub image: Image,
    pub memory: Memory,
    pub parts: Vec<Part>,
}

/// The base of that number; all numbers are allowed.
pub fn base(number: u8) -> &'static Base {
    static BASES: OnceLock<[Base; 2]> = OnceLock::new();
    let bases = BASES.get_or_init(|| {
        ["closed", "killed"].map(|name| {
            let path = format!("{}/bases/{name}", env!("CARGO_MANIFEST_DIR"));
            load(&std::fs::read(path).expect("the bases are there"))
        })
    });
    &bases[usize::from(number) % bases.len()]
}

fn load(packed: &[u8]) -> Base {
    let image = unpack(packed);
    let empty = Memory::new();
    empty.create_directory("log").expect("a directory");
    let memory = image.to_memory(&empty, &Image::default()).expect("memory");
    let parts = parts(&image);
    Base { image, memory, parts }
}

/// Pieces of this length are left out if they are zero.
const PIECE: usize = 64;

/// The files of an image without their zeros.
pub fn pack(image: &Image) -> Vec<u8> {
    let mut packed = Vec::new();
    for (name, bytes) in &image.files {
        packed.extend((name.len() as u16).to_le_bytes());
        packed.extend(name.as_bytes());
        packed.extend((bytes.len() as u64).to_le_bytes());
        let pieces = bytes.chunks(PIECE).enumerate();
        let pieces: Vec<_> = pieces.filter(|(_, p)| p.iter().any(|b| *b != 0)).collect();
        packed.extend((pieces.len() as u32).to_le_bytes());
        for (i, piece) in pieces {
            packed.extend(((i * PIECE) as u64).to_le_bytes());
            packed.extend((piece.len() as u32).to_le_bytes());
            packed.extend(piece);
        }
    }
    packed
}

fn unpack(mut packed: &[u8]) -> Image {
    let mut take = |length: usize| {
        let (taken, rest) = packed.split_at(length);
        packed = rest;
        (taken, rest.is_empty())
    };
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, b| sum << 8 | usize::from(*b));
    let mut image = Image::default();
    loop {
        let length = number(take(2).0);
        let name = String::from_utf8(take(length).0.to_vec()).expect("a name");
        let mut bytes = vec![0; number(take(8).0)];
        let (pieces, mut done) = take(4);
        for _ in 0..number(pieces) {
            let offset = number(take(8).0);
            let length = number(take(4).0);
            let (piece, end) = take(length);
            bytes[offset..offset + length].copy_from_slice(piece);
            done = end;
        }
        image.files.insert(name, bytes);
        if done {
            return image;
        }
    }
}

/// The number of whole blocks of a file.
pub fn blocks(bytes: &[u8]) -> usize {
    bytes.len() / BLOCK
}
