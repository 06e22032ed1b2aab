//! Operations of the log that are replayed together.
//!
//! Operations on different keys may be replayed in any order, as long as those
//! on the same key keep theirs. So as many as fit a *window* are collected, and
//! sorted by table and hash. Then those of a segment stand together: it is
//! brought from memory once for all of them, room for all that it will get is
//! made at once, and of several operations on a key only the last is done.
//!
//! The window holds copies of the operations, since the records are read
//! through a buffer. An operation is 20 bytes in front of key and value: its
//! place in the log, and its header as it stands there.

use crate::format::record::{OP_HEADER, Op, OpKind, Ops};
use crate::format::u32_at;
use crate::storage::map::prefetch;
use crate::table::write::Changes;

/// The most bytes that a window holds.
const MOST_BYTES: usize = 32 << 20;
/// File and offset of the key in it, in front of each operation.
const PLACE: usize = 8;
const TABLE_SHIFT: u32 = 48;

/// A collected operation, small for sorting.
#[derive(Clone, Copy)]
pub(super) struct Item {
    pub(super) hash: u64,
    /// From the highest bit on: the table, where in the window the operation
    /// begins, whether it is an insert.
    tag: u64,
}

impl Item {
    pub(super) fn table(&self) -> u16 {
        (self.tag >> TABLE_SHIFT) as u16
    }

    fn is_insert(&self) -> bool {
        self.tag & 1 == 1
    }

    fn start(&self) -> usize {
        ((self.tag & ((1 << TABLE_SHIFT) - 1)) >> 1) as usize
    }
}

/// An operation, and where the log has it.
pub(super) struct Change<'a> {
    pub(super) op: Op<'a>,
    pub(super) file: u32,
    pub(super) key_at: u32,
}

/// Collected operations: inserts and removes.
#[derive(Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    items: Vec<Item>,
    most_items: usize,
}

impl Window {
    /// An empty window for a pool that prefers to stay below so many frames.
    /// Were all operations of it inserts into one segment, the pages for them
    /// would be less than half as many.
    pub(super) fn new(frame_limit: usize) -> Window {
        let most_items = frame_limit.saturating_mul(2);
        Window { bytes: Vec::new(), items: Vec::new(), most_items }
    }

    /// Whether an operation is too long for any window.
    pub(super) fn is_too_long(op: &Op<'_>) -> bool {
        PLACE as u64 + op.encoded_len() > MOST_BYTES as u64
    }

    /// Whether there is room for an operation that is not too long.
    pub(super) fn has_room(&self, op: &Op<'_>) -> bool {
        let bytes = self.bytes.len() + PLACE + op.encoded_len() as usize;
        bytes <= MOST_BYTES && self.items.len() < self.most_items
    }

    /// Collects an operation for which there is room.
    pub(super) fn push(&mut self, hash: u64, change: &Change<'_>) {
        let Change { op, file, key_at } = change;
        let start = self.bytes.len() as u64;
        let insert = u64::from(op.kind == OpKind::Insert);
        let tag = u64::from(op.table) << TABLE_SHIFT | start << 1 | insert;
        self.items.push(Item { hash, tag });
        self.bytes.reserve(PLACE + op.encoded_len() as usize);
        self.bytes.extend_from_slice(&file.to_le_bytes());
        self.bytes.extend_from_slice(&key_at.to_le_bytes());
        self.bytes.extend_from_slice(&op.encode_header());
        self.bytes.extend_from_slice(op.key);
        self.bytes.extend_from_slice(op.value);
    }

    /// Sorts by table, then by hash, then by the order of the log.
    pub(super) fn sort(&mut self) {
        self.items.sort_unstable_by_key(|item| (item.table(), item.hash, item.tag));
    }

    /// The operations, sorted by [`sort`](Window::sort), table by table.
    pub(super) fn tables(&self) -> impl Iterator<Item = OfTable<'_>> {
        let tables = self.items.chunk_by(|a, b| a.table() == b.table());
        tables.map(|items| OfTable { bytes: &self.bytes, items })
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.items.clear();
    }
}

/// The operations on one table, sorted.
pub(super) struct OfTable<'a> {
    bytes: &'a [u8],
    pub(super) items: &'a [Item],
}

impl<'a> OfTable<'a> {
    /// Asks for the bytes of an operation.
    pub(super) fn foresee(&self, item: &Item) {
        let bytes = &self.bytes[item.start()..];
        prefetch(&bytes[0]);
        bytes.get(64).inspect(|byte| prefetch(*byte));
    }

    /// An operation.
    pub(super) fn change(&self, item: &Item) -> Change<'a> {
        let bytes = &self.bytes[item.start()..];
        let decoded = Ops::new(&bytes[PLACE..]).next().and_then(Result::ok);
        let (op, _) = decoded.expect("what was collected was decoded before");
        Change { op, file: u32_at(bytes, 0), key_at: u32_at(bytes, 4) }
    }

    /// Whether the operation behind this one is on the same key, so that this
    /// one leaves nothing.
    pub(super) fn is_undone(&self, i: usize) -> bool {
        let (this, next) = (&self.items[i], self.items.get(i + 1));
        next.is_some_and(|next| next.hash == this.hash && self.key_of(next) == self.key_of(this))
    }

    fn key_of(&self, item: &Item) -> &'a [u8] {
        self.change(item).op.key
    }
}

impl Changes for OfTable<'_> {
    fn len(&self) -> usize {
        self.items.len()
    }

    fn hash(&self, change: usize) -> u64 {
        self.items[change].hash
    }

    fn is_insert(&self, change: usize) -> bool {
        self.items[change].is_insert()
    }
}

const _: () = assert!((MOST_BYTES as u64) < 1 << (TABLE_SHIFT - 1) && PLACE + OP_HEADER == 20);
