//! Parts of a store as JSON objects.
//!
//! Names and meanings of fields stay, others may be added. Checksums, hashes
//! and salts are hexadecimal texts, so that they look the same everywhere; keys
//! and values are texts, or base64 under a name that ends in `_b64`. A group, a
//! block and a search are in `document/single.rs`.
//!
//! ```text
//! asked for   types
//! header      header (two)
//! directory   root, then directory_page for each
//! segment     segment
//! group       group
//! block       block
//! key         key
//! log         log_file for each; of one file also record, gap
//! --hex       after each of these: field for each of its fields
//! any         damage, if nothing else can be shown
//! ```

mod single;

use serde_json::{Map, Value, json};
use swissdb::inspect::{
    Damage, Directory, DirectoryPage, Entry, Field, Group, HeaderCopy, Kind, LogFile, Operation,
    Page, Piece, Run, Segment, SegmentRecord, Slot,
};

use crate::line;

pub use single::{
    absent_group, block, block_is_damaged, group_damage, lone_group, search, search_is_damaged,
};

/// A copy of a header.
pub fn header(copy: &HeaderCopy) -> Value {
    let fields = copy.header.as_ref().map(|h| {
        json!({
            "table_id": h.table_id,
            "name": h.name,
            "slot_payload": h.payload,
            "hash": h.hash_id,
            "state": format!("{:?}", h.state).to_lowercase(),
            "clean": h.clean,
            "root_depth": h.root_depth,
            "hash_key": h.hash_key.map(long),
            "self_test": long(h.self_test),
            "capacity": h.capacity,
            "used": h.used,
            "growth_left": h.growth_left,
            "tombstones": h.tombstones,
            "segments": h.segments,
            "generation": h.generation,
            "log": {
                "file": h.log.file,
                "salt": short(h.log.salt),
                "offset": h.log.offset,
                "commit": h.log.commit,
            },
            "root": run(h.root),
            "live_count": h.live_count,
            "free_map": run(h.free_map),
            "file_blocks": h.file_blocks,
            "next_table_id": h.next_table_id,
            "clears": h.clears,
        })
    });
    json!({
        "type": "header",
        "copy": copy.copy,
        "counts": copy.counts,
        "damage": one(copy.damage.as_ref()),
        "header": fields,
    })
}

/// The root of a table.
pub fn root(directory: &Directory) -> Value {
    let live = directory.live.iter();
    let live: Vec<_> = live.map(|(file, bytes)| json!({"file": file, "bytes": bytes})).collect();
    json!({
        "type": "root",
        "depth": directory.depth,
        "run": run(directory.run),
        "live": live,
        "damage": one(directory.damage.as_ref()),
    })
}

/// A directory page with its segments.
pub fn directory_page(page: &DirectoryPage) -> Value {
    json!({
        "type": "directory_page",
        "number": page.number,
        "first_entry": page.first_entry,
        "entries": page.entries,
        "block": page.block,
        "crc": short(page.crc),
        "prefix": short(page.prefix),
        "depth": page.depth,
        "generation": page.generation,
        "segments": page.segments.iter().map(segment_record).collect::<Vec<_>>(),
        "damage": one(page.damage.as_ref()),
    })
}

fn segment_record(segment: &SegmentRecord) -> Value {
    let pages = segment.pages.iter();
    let pages: Vec<_> =
        pages.map(|page| json!({"block": page.block, "crc": short(page.crc)})).collect();
    json!({
        "number": segment.number,
        "prefix": short(segment.prefix),
        "depth": segment.depth,
        "used": segment.used,
        "tombstones": segment.tombstones,
        "slots": segment.slots,
        "pages": pages,
    })
}

/// A segment with all its slots.
pub fn segment(segment: &Segment) -> Value {
    let pages = segment.pages.iter().map(page);
    let pages: Vec<_> = pages.collect();
    json!({"type": "segment", "record": segment_record(&segment.record), "pages": pages})
}

/// A page with all its slots.
fn page(page: &Page) -> Value {
    let mut fields = page_heading(page);
    fields["groups"] = page.groups.iter().map(group).collect();
    fields["damage"] = all(&page.damage);
    fields
}

/// A page without its slots.
fn page_heading(page: &Page) -> Value {
    let (table, depth, number, generation) = page.page_record;
    json!({
        "block": page.at.block,
        "crc": short(page.at.crc),
        "stored_crc": short(page.stored_crc),
        "found_crc": short(page.found_crc),
        "page_record": {
            "table_id": table, "depth": depth, "page": number, "generation": generation,
        },
    })
}

fn group(group: &Group) -> Value {
    json!({
        "number": group.number,
        "offset": group.offset,
        "control": group.control,
        "slots": group.slots.iter().map(slot).collect::<Vec<_>>(),
    })
}

/// Bytes, and what they are.
pub fn field(field: &Field) -> Value {
    let hex: String = field.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "type": "field",
        "offset": field.offset,
        "length": field.length,
        "hex": hex,
        "within": field.within,
        "name": field.name,
        "value": field.value,
        "reserved": field.is_reserved(),
        "damage": one(field.damage.as_ref()),
    })
}

fn slot(slot: &Slot) -> Value {
    match slot {
        Slot::Empty => json!({"slot": "empty"}),
        Slot::Deleted => json!({"slot": "deleted"}),
        Slot::Unknown(byte) => json!({"slot": "unknown", "control": byte}),
        Slot::Full(found) => entry(found),
    }
}

fn entry(entry: &Entry) -> Value {
    let mut fields = Map::new();
    fields.insert("slot".into(), json!("full"));
    bytes(&mut fields, "key", entry.key.as_deref());
    bytes(&mut fields, "value", entry.value.as_deref());
    let address = entry.address.map(|address| {
        json!({
            "hash": long(address.hash),
            "length": address.length,
            "crc": short(address.crc),
            "file": address.file,
            "offset": address.offset,
        })
    });
    for (name, value) in [
        ("offset", json!(entry.offset)),
        ("h2", json!(entry.h2)),
        ("fp", json!(entry.fp)),
        ("key_length", json!(entry.key_length)),
        ("value_length", json!(entry.value_length)),
        ("address", json!(address)),
        ("hash", json!(entry.hash.map(long))),
        ("home", json!(entry.home)),
        ("probes", json!(entry.probes)),
        ("damage", all(&entry.damage)),
    ] {
        fields.insert(name.into(), value);
    }
    Value::Object(fields)
}

/// A log file without its records.
pub fn log_file(file: &LogFile) -> Value {
    let activation = file.activation.map(|activation| {
        json!({
            "previous": activation.previous,
            "previous_end": activation.previous_end,
            "last_commit": activation.last_commit,
        })
    });
    json!({
        "type": "log_file",
        "number": file.number,
        "length": file.length,
        "salt": short(file.salt),
        "activation": activation,
        "stated_end": file.stated_end,
        "damage": one(file.damage.as_ref()),
    })
}

/// A record, or bytes that are none.
pub fn piece(piece: &Piece) -> Value {
    match piece {
        Piece::Gap(gap) => json!({
            "type": "gap", "offset": gap.offset, "length": gap.length, "why": gap.why,
        }),
        Piece::Record(record) => json!({
            "type": "record",
            "offset": record.offset,
            "length": record.length,
            "commit": record.commit,
            "durable": record.durable,
            "in_log": record.in_log,
            "operations": record.operations.iter().map(operation).collect::<Vec<_>>(),
            "more_operations": record.more_operations,
            "damage": one(record.damage.as_ref()),
        }),
    }
}

fn operation(operation: &Operation) -> Value {
    let mut fields = Map::new();
    fields.insert("kind".into(), json!(kind(operation.kind).replace(' ', "_")));
    fields.insert("table_id".into(), json!(operation.table));
    bytes(&mut fields, "key", Some(&operation.key));
    fields.insert("value_offset".into(), json!(operation.value_offset));
    fields.insert("value_length".into(), json!(operation.value_length));
    bytes(&mut fields, "value_start", Some(&operation.value_start));
    Value::Object(fields)
}

/// What an operation does, in the words of the format.
pub fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Insert => "insert",
        Kind::Remove => "remove",
        Kind::Clear => "clear",
        Kind::CreateTable => "create table",
        Kind::DropTable => "drop table",
        _ => "unknown",
    }
}

fn bytes(fields: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    let (name, value) = line::text_or_base64(name, bytes.unwrap_or_default());
    let value = if bytes.is_some() { Value::String(value) } else { Value::Null };
    fields.insert(name, value);
}

fn run(run: Run) -> Value {
    json!({"block": run.block, "blocks": run.blocks, "crc": short(run.crc)})
}

fn one(damage: Option<&Damage>) -> Value {
    damage.map_or(Value::Null, |damage| json!({"offset": damage.offset, "text": damage.text}))
}

fn all(damage: &[Damage]) -> Value {
    damage.iter().map(|damage| one(Some(damage))).collect()
}

fn short(number: u32) -> String {
    format!("{number:08x}")
}

fn long(number: u64) -> String {
    format!("{number:016x}")
}
