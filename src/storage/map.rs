//! Memory that several threads, or a file and a thread, share: as words.
//!
//! A [`Map`] is a range of such memory: a mapping of a file, anonymous memory,
//! or a piece of the heap that stands for a file in tests. The free functions
//! below it copy bytes into and out of words. This module does not know what
//! the bytes mean, nor when they may be read; it only makes sure that reading
//! them at the wrong time yields nonsense and never undefined behaviour.
//!
//! ```text
//! Map ──► base                                                    8 * count
//!         ├────────┬────────┬────────┬───────── ··· ────────┬────────┤
//!         │ word 0 │ word 1 │ word 2 │                      │        │
//!         └────────┴────────┴────────┴───────── ··· ────────┴────────┘
//!          bytes 0..8: byte i of a word is byte i of the file, on every machine
//! ```
//!
//! # The safety argument
//!
//! 1. Memory that another thread may write is accessed as aligned
//!    [`AtomicU64`] words and in no other way: every function here but
//!    [`Map::bytes`] does so. A race between two such accesses is a race of
//!    whole words, which is defined: a reader sees the old or the new one.
//!    Whether what it copied belongs together is for the caller to find out
//!    (by a version word, an epoch, a checksum).
//! 2. All accesses are `Relaxed`, which the compiler turns into plain moves.
//!    Order comes from the caller's fences. Loads that are not `Relaxed` are
//!    not allowed on a map that is not writable: the language permits only
//!    relaxed loads of read-only memory.
//! 3. [`Map::bytes`] lends plain bytes and is `unsafe`: its caller vouches
//!    that nobody writes them while they are lent.
//! 4. The memory of a map lives as long as the map and its clones. The mapped
//!    file may not be truncated meanwhile, by this or another process: an
//!    access beyond its end ends the process with SIGBUS. The store truncates
//!    no mapped file but that of a table, and only when it is closed and no handle is
//!    left that could read; its `LOCK` keeps other stores off.
//! 5. A write changes whole words: the bytes of its first and last word that
//!    lie outside of its range are written back as they were. So two threads
//!    may not write bytes of the same word at the same time; the one that
//!    comes second might undo the first. (The store has one writer at a time,
//!    and what it writes starts and ends at multiples of 8.)
//!
//! A [`Map`] may be used from any thread.

use std::fmt;
use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use memmap2::{Advice, MmapOptions, MmapRaw};

use room::Share;

mod advice;
mod room;

/// Bytes in a word.
const WORD: usize = 8;

/// From this size on, in bytes, anonymous memory is worth huge pages.
const HUGE_PAGE: usize = 2 << 20;

/// A range of shared memory; a clone is the same memory.
#[derive(Clone)]
pub struct Map {
    /// The first word; beside `count` so that readers touch one cache line.
    base: NonNull<AtomicU64>,
    /// The number of words.
    count: usize,
    /// Whether a store into the memory is possible at all.
    writable: bool,
    /// What `base` points into.
    owner: Owner,
}

/// What keeps the memory of a map alive.
#[derive(Clone)]
enum Owner {
    /// Held, never looked at: `base` points into it.
    #[allow(dead_code)]
    Heap(Arc<[AtomicU64]>),
    Anonymous(Arc<MmapRaw>),
    Reserved(Arc<Reservation>),
    File(Arc<MmapRaw>),
}

/// Reserved addresses, and the right to have them, which ends behind them.
struct Reservation {
    raw: MmapRaw,
    _share: Share,
}

impl Owner {
    /// The mapping, if it is one.
    fn mapping(&self) -> Option<&MmapRaw> {
        match self {
            Owner::Heap(_) => None,
            Owner::Anonymous(raw) | Owner::File(raw) => Some(raw),
            Owner::Reserved(reservation) => Some(&reservation.raw),
        }
    }
}

/// The first word of a map: there is one, so nobody has to look.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    map: Map,
}

impl std::ops::Deref for Word {
    type Target = AtomicU64;

    #[inline(always)]
    fn deref(&self) -> &AtomicU64 {
        // SAFETY: `base` is aligned and heads `count` words (`Map::words`), which
        // are not none (`Map::first`).
        unsafe { self.map.base.as_ref() }
    }
}

// SAFETY: `base` points into memory owned by `owner`, which is `Send` and
// `Sync`, and is only used to make `&[AtomicU64]`, which is both as well, or
// by `Map::bytes`, whose caller answers for it.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// A map of words on the heap, for storages that are not files.
    pub fn heap(words: Arc<[AtomicU64]>) -> Map {
        let base = NonNull::from(&*words).cast::<AtomicU64>();
        Map { base, count: words.len(), writable: true, owner: Owner::Heap(words) }
    }

    /// Maps the first `length` bytes of a file, shared with everybody who maps
    /// or reads it. It is advised for random access.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `length` is no multiple of 8 or goes beyond the end
    /// of the file; what the operating system says otherwise.
    pub(crate) fn file(file: &File, length: u64, writable: bool) -> io::Result<Map> {
        let bytes = usize::try_from(length).map_err(|_| invalid("the file is too large to map"))?;
        if length > file.metadata()?.len() {
            return Err(invalid("a map may not go beyond the end of the file"));
        }
        let mut options = MmapOptions::new();
        options.len(bytes);
        let raw =
            if writable { options.map_raw(file)? } else { options.map_raw_read_only(file)? };
        if bytes > 0 {
            // Advice: where it is not taken, reads bring in neighbours that nobody asked for;
            // and a store into a page that was never written, as many zeros: 8 MiB, 20 ms
            // (`want_neighbours` takes it back).
            let _ = raw.advise(Advice::Random);
        }
        Map::mapped(Owner::File(Arc::new(raw)), bytes, writable)
    }

    /// New memory of that many bytes, all zero, that takes no space until it
    /// is written. From 2 MiB on, huge pages are asked for.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `bytes` is no multiple of 8; what the operating
    /// system says otherwise.
    pub(crate) fn anonymous(bytes: usize) -> io::Result<Map> {
        if cfg!(miri) {
            return Ok(Map::heap(zeros(bytes / WORD)));
        }
        let raw = MmapRaw::from(MmapOptions::new().len(bytes).no_reserve_swap().map_anon()?);
        if bytes >= HUGE_PAGE {
            // Advice: without huge pages everything works, at some TLB misses more.
            let _ = raw.advise(Advice::HugePage);
        }
        Map::mapped(Owner::Anonymous(Arc::new(raw)), bytes, true)
    }

    /// Addresses for `most` bytes, all zero, which take memory page by page when
    /// they are written; huge pages where they are [wanted](Map::want_huge_pages).
    /// For fewer, but not for fewer than `least`, if many [are reserved](room) or the
    /// system refuses. Both are powers of two, and so is the length of the map.
    ///
    /// # Errors
    ///
    /// As [`anonymous`](Map::anonymous).
    pub(crate) fn reserved(most: usize, least: usize) -> io::Result<Map> {
        if cfg!(miri) {
            return Ok(Map::heap(zeros(most / WORD)));
        }
        let mut share = Share::take(most, least);
        loop {
            let bytes = share.bytes();
            match MmapOptions::new().len(bytes).no_reserve_swap().map_anon() {
                Ok(map) => {
                    let reservation = Reservation { raw: map.into(), _share: share };
                    return Map::mapped(Owner::Reserved(Arc::new(reservation)), bytes, true);
                }
                // Far fewer at once: half of what was refused might be all there is,
                // and others need some.
                Err(_) if bytes > least => share = Share::take((bytes / 16).max(least), least),
                Err(error) => return Err(error),
            }
        }
    }

    fn mapped(owner: Owner, bytes: usize, writable: bool) -> io::Result<Map> {
        if !bytes.is_multiple_of(WORD) {
            return Err(invalid("the length of a map must be a multiple of 8"));
        }
        let address = owner.mapping().map_or(std::ptr::null_mut(), MmapRaw::as_mut_ptr);
        let base = NonNull::new(address.cast::<AtomicU64>());
        let base = base.ok_or_else(|| invalid("the map has no address"))?;
        debug_assert!(base.is_aligned(), "mappings start at page boundaries");
        Ok(Map { base, count: bytes / WORD, writable, owner })
    }

    /// The first `bytes` bytes of this map, as a map of the same memory.
    /// `None` if `bytes` is no multiple of 8 or more than there are.
    pub(crate) fn prefix(&self, bytes: usize) -> Option<Map> {
        let possible = bytes.is_multiple_of(WORD) && bytes <= self.len();
        possible.then(|| Map { count: bytes / WORD, ..self.clone() })
    }

    /// The first word of the map, which it must have.
    pub(crate) fn first(self) -> Option<Word> {
        (self.count > 0).then_some(Word { map: self })
    }

    /// The length in bytes, a multiple of 8.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "it is a size, and nobody asks for zero")]
    pub fn len(&self) -> usize {
        self.count * WORD
    }

    /// Whether the memory may be written.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// All words of the map. Those of a map that is not writable may only be
    /// loaded, `Relaxed`; a store there ends the process.
    #[inline]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: `base` is aligned and heads `count` words of initialised
        // memory that lives as long as `self.owner`; they are shared as
        // atomics only, or lent by `Map::bytes` under its caller's promise.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.count) }
    }

    /// Lends bytes as they lie in memory. `None` beyond the end of the map.
    ///
    /// # Safety
    ///
    /// Nobody writes any byte of that range, through whatever map or file,
    /// while the slice lives.
    #[inline]
    pub(crate) unsafe fn bytes(&self, offset: usize, length: usize) -> Option<&[u8]> {
        let end = offset.checked_add(length)?;
        if end > self.len() {
            return None;
        }
        // SAFETY: the range lies within the memory of the map, which lives as
        // long as `self`; that it does not change is the caller's promise.
        Some(unsafe { slice::from_raw_parts(self.base.as_ptr().cast::<u8>().add(offset), length) })
    }

    /// Copies bytes out of the map, word by word.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` beyond the end of the map.
    pub fn copy_out(&self, offset: usize, out: &mut [u8]) -> io::Result<()> {
        self.check(offset, out.len())?;
        load_bytes(self.words(), offset, out);
        Ok(())
    }

    /// Copies bytes into the map, word by word. Nobody else may write the words
    /// of that range meanwhile; whoever reads them sees old words and new ones.
    ///
    /// It takes about as long as a `memcpy`, because the memory is what is
    /// slow: measured 4 ns against 3 for 100 bytes, 140 against 160 for 4 KiB,
    /// 57 µs against 60 for 1 MiB.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` beyond the end of the map, `PermissionDenied` if it is
    /// not writable. Then nothing is written.
    #[inline]
    pub fn copy_in(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        self.check(offset, bytes.len())?;
        if !self.writable {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the map is read-only"));
        }
        store_bytes(self.words(), offset, bytes);
        Ok(())
    }

    #[inline]
    pub(super) fn check(&self, offset: usize, length: usize) -> io::Result<()> {
        match offset.checked_add(length) {
            Some(end) if end <= self.len() => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "beyond the end of the map")),
        }
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match (&self.owner, self.writable) {
            (Owner::Heap(_), _) => "heap",
            (_, true) => "writable",
            (_, false) => "read-only",
        };
        write!(f, "Map({kind}, {} bytes)", self.len())
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// That many words on the heap, all zero.
pub(crate) fn zeros(count: usize) -> Arc<[AtomicU64]> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

/// Asks for the cache line of something that is going to be used soon.
#[inline]
pub(crate) fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: prefetching reads nothing that the program can see, and any
    // address may be prefetched; this one is even valid.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// Copies bytes out of words, from a byte offset, loading each word once.
///
/// # Panics
///
/// If the range does not lie within the words.
#[inline]
pub(crate) fn load_bytes(words: &[AtomicU64], offset: usize, out: &mut [u8]) {
    let (mut words, inside) = (&words[offset / WORD..], offset % WORD);
    let mut out = out;
    if inside != 0 && !out.is_empty() {
        let (head, rest) = out.split_at_mut(out.len().min(WORD - inside));
        put_tail(u64::from_le(words[0].load(Relaxed)) >> (8 * inside), head);
        (words, out) = (&words[1..], rest);
    }
    let (whole, tail) = out.as_chunks_mut::<WORD>();
    let (whole_words, words) = words.split_at(whole.len());
    for (bytes, word) in whole.iter_mut().zip(whole_words) {
        *bytes = word.load(Relaxed).to_ne_bytes();
    }
    if !tail.is_empty() {
        put_tail(u64::from_le(words[0].load(Relaxed)), tail);
    }
}

/// Copies bytes into words, at a byte offset, storing each word once. The
/// other bytes of the first and last word are written back as they were.
///
/// # Panics
///
/// If the range does not lie within the words.
#[inline]
pub(crate) fn store_bytes(words: &[AtomicU64], offset: usize, bytes: &[u8]) {
    let (mut words, inside) = (&words[offset / WORD..], offset % WORD);
    let mut bytes = bytes;
    if inside != 0 && !bytes.is_empty() {
        let (head, rest) = bytes.split_at(bytes.len().min(WORD - inside));
        merge(&words[0], inside, head);
        (words, bytes) = (&words[1..], rest);
    }
    let (whole, tail) = bytes.as_chunks::<WORD>();
    let (whole_words, words) = words.split_at(whole.len());
    for (word, bytes) in whole_words.iter().zip(whole) {
        word.store(u64::from_ne_bytes(*bytes), Relaxed);
    }
    if !tail.is_empty() {
        merge(&words[0], 0, tail);
    }
}

/// Copies words.
///
/// # Panics
///
/// If the two lengths differ.
#[inline]
pub(crate) fn copy_words(from: &[AtomicU64], to: &[AtomicU64]) {
    assert_eq!(from.len(), to.len(), "words are copied one to one");
    for (from, to) in from.iter().zip(to) {
        to.store(from.load(Relaxed), Relaxed);
    }
}

/// Sets every word to a value.
#[inline]
pub(crate) fn fill(words: &[AtomicU64], value: u64) {
    for word in words {
        word.store(value, Relaxed);
    }
}

/// Writes the low bytes of a little-endian word: at most 7, without a call of
/// `memcpy` for a handful of bytes.
#[inline]
fn put_tail(word: u64, out: &mut [u8]) {
    let (mut word, mut out) = (word, out);
    if out.len() >= 4 {
        let (four, rest) = out.split_at_mut(4);
        four.copy_from_slice(&(word as u32).to_le_bytes());
        (word, out) = (word >> 32, rest);
    }
    if out.len() >= 2 {
        let (two, rest) = out.split_at_mut(2);
        two.copy_from_slice(&(word as u16).to_le_bytes());
        (word, out) = (word >> 16, rest);
    }
    if let Some(one) = out.first_mut() {
        *one = word as u8;
    }
}

/// The counterpart of [`put_tail`]: at most 7 bytes as a little-endian word.
#[inline]
pub(crate) fn get_tail(bytes: &[u8]) -> u64 {
    let (mut word, mut shift, mut bytes) = (0, 0, bytes);
    if let Some((four, rest)) = bytes.split_first_chunk::<4>() {
        word = u64::from(u32::from_le_bytes(*four));
        (shift, bytes) = (32, rest);
    }
    if let Some((two, rest)) = bytes.split_first_chunk::<2>() {
        word |= u64::from(u16::from_le_bytes(*two)) << shift;
        (shift, bytes) = (shift + 16, rest);
    }
    if let Some(one) = bytes.first() {
        word |= u64::from(*one) << shift;
    }
    word
}

/// Replaces at most 7 bytes within a word, from byte `inside` on.
#[inline]
fn merge(word: &AtomicU64, inside: usize, bytes: &[u8]) {
    debug_assert!(bytes.len() < WORD && inside + bytes.len() <= WORD);
    let mask = ((1 << (8 * bytes.len())) - 1) << (8 * inside);
    let old = u64::from_le(word.load(Relaxed));
    let new = get_tail(bytes) << (8 * inside);
    word.store(((old & !mask) | new).to_le(), Relaxed);
}

#[cfg(test)]
mod tests;
