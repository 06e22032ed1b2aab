//! How an input changes an image: steps of an operation and its operands.
//!
//! Most steps aim at a part that means something: the fuzzer would look long
//! for those few bytes among a million zeros.

use crate::bases::{Base, blocks};
use crate::image::{BLOCK, Image, Kind};
use crate::input::Input;

/// Numbers on which code stumbles.
const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    7,
    8,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];

/// Steps that are taken at most: later ones rarely matter.
const STEPS: usize = 24;

/// Changes an image as the input says.
pub fn patch(base: &Base, image: &mut Image, input: &mut Input<'_>) {
    for _ in 0..STEPS {
        if !input.more() {
            return;
        }
        let step = input.u8();
        match step % 16 {
            0..=9 => change_part(base, image, step, input),
            10 => cut_or_extend(image, input),
            11 | 12 => move_block(image, input),
            13 => drop(file_of(image, input).map(|name| image.files.remove(&name))),
            14 => rename(image, input),
            _ => overwrite(image, input),
        }
    }
}

fn file_of(image: &Image, input: &mut Input<'_>) -> Option<String> {
    let number = usize::from(input.u8());
    image.files.keys().nth(number % image.files.len().max(1)).cloned()
}

/// Changes bytes of a part of the base.
fn change_part(base: &Base, image: &mut Image, step: u8, input: &mut Input<'_>) {
    let part = &base.parts[usize::from(input.u8()) % base.parts.len()];
    let at = usize::from(input.u16()) % (part.end - part.start);
    let Some(bytes) = image.files.get_mut(&part.file) else { return };
    // Half of all bytes of a header are reserved: aim at the others.
    let at = if matches!(part.kind, Kind::Header(_)) && step < 128 { at % 320 } else { at };
    let at = part.start + at;
    let Some(rest) = bytes.get_mut(at..part.end).filter(|rest| !rest.is_empty()) else { return };
    match step % 16 {
        0 | 1 => rest[0] ^= 1 << (input.u8() % 8),
        2 | 3 => rest[0] = input.u8(),
        4..=7 => {
            let kind = input.u8();
            let number = NUMBERS[usize::from(kind) % 16].to_le_bytes();
            let width = [1, 2, 4, 8][usize::from(kind >> 4) % 4].min(rest.len());
            rest[..width].copy_from_slice(&number[..width]);
        }
        _ => {
            let new = input.take(1 + usize::from(step >> 4));
            let length = new.len().min(rest.len());
            rest[..length].copy_from_slice(&new[..length]);
        }
    }
}

/// Ends a file early, or lets it go on.
fn cut_or_extend(image: &mut Image, input: &mut Input<'_>) {
    let Some(name) = file_of(image, input) else { return };
    let (how, at) = (input.u8(), input.u32() as usize);
    let bytes = image.files.get_mut(&name).expect("the name of a file");
    let length = match how % 4 {
        0 => at % (bytes.len() + 1),
        1 => at % (bytes.len() + 1) / BLOCK * BLOCK,
        2 => bytes.len() + at % (3 * BLOCK),
        _ => bytes.len().saturating_sub(at % BLOCK),
    };
    bytes.resize(length, how);
}

/// Swaps two blocks of a file, or copies one over the other.
fn move_block(image: &mut Image, input: &mut Input<'_>) {
    let Some(name) = file_of(image, input) else { return };
    let (how, from, to) = (input.u8(), input.u16(), input.u16());
    let bytes = image.files.get_mut(&name).expect("the name of a file");
    let count = blocks(bytes);
    if count == 0 {
        return;
    }
    let (from, to) = (usize::from(from) % count * BLOCK, usize::from(to) % count * BLOCK);
    let there = bytes[to..to + BLOCK].to_vec();
    bytes.copy_within(from..from + BLOCK, to);
    if how % 2 == 0 {
        bytes[from..from + BLOCK].copy_from_slice(&there);
    }
}

/// Gives a file the name of another, or a new one.
fn rename(image: &mut Image, input: &mut Input<'_>) {
    let (Some(from), how) = (file_of(image, input), input.u8()) else { return };
    let to = match how % 4 {
        0 => "other.swiss".to_string(),
        1 => "log/00000009.log".to_string(),
        2 => "log/4294967295.log".to_string(),
        _ => file_of(image, input).unwrap_or_default(),
    };
    if let Some(bytes) = image.files.remove(&from) {
        image.files.insert(to, bytes);
    }
}

/// Overwrites bytes anywhere.
fn overwrite(image: &mut Image, input: &mut Input<'_>) {
    let Some(name) = file_of(image, input) else { return };
    let (at, length) = (input.u32() as usize, usize::from(input.u8()));
    let bytes = image.files.get_mut(&name).expect("the name of a file");
    let at = at % (bytes.len() + 1);
    let new = input.take(length);
    let end = bytes.len().min(at + new.len());
    bytes[at..end].copy_from_slice(&new[..end - at]);
}
