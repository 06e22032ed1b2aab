//! A group, a block, a search: parts that are asked for one by one.

use serde_json::{Value, json};
use swissdb::inspect::{
    Block, Candidate, Content, Damage, Group, News, Page, Role, Search, SearchResult, Slot, Step,
    Verdict,
};

use super::{
    all, bytes, directory_page, entry, group, header, long, one, operation, page, page_heading,
    run, segment_record, short,
};

/// A group by itself, with its page.
pub fn lone_group(segment: u64, page: &Page, found: &Group) -> Value {
    json!({
        "type": "group",
        "segment": segment,
        "page": page_heading(page),
        "group": group(found),
        "damage": all(&page.damage),
    })
}

/// A group whose page cannot be read.
pub fn absent_group(segment: u64, number: usize, page: &Page) -> Value {
    json!({
        "type": "group",
        "segment": segment,
        "page": page_heading(page),
        "group": {"number": number},
        "damage": all(&page.damage),
    })
}

/// All that is wrong with the entries of a group.
pub fn group_damage(group: &Group) -> impl Iterator<Item = &Damage> {
    group.slots.iter().flat_map(|slot| match slot {
        Slot::Full(entry) => &entry.damage[..],
        _ => &[],
    })
}

/// A block, what it is, and what it holds.
pub fn block(block: &Block) -> Value {
    let mut content = content(&block.content);
    if let Value::Object(fields) = &mut content {
        fields.shift_remove("type");
    }
    json!({
        "type": "block",
        "number": block.number,
        "offset": block.offset,
        "file_blocks": block.file_blocks,
        "roles": block.roles.iter().map(role).collect::<Vec<_>>(),
        "free": block.is_free,
        "holds": holds(&block.content),
        "content": content,
        "damage": all(&block.damage),
    })
}

/// Whether a block, or what it holds, is damaged.
pub fn block_is_damaged(block: &Block) -> bool {
    let inside = match &block.content {
        Content::Header(copy) => copy.damage.is_some(),
        Content::Root(root) => root.damage.is_some(),
        Content::FreeMap(map) => map.damage.is_some(),
        Content::DirectoryPage(page) => page.damage.is_some(),
        Content::Page(page) => {
            let mut groups = page.groups.iter().flat_map(group_damage);
            !page.damage.is_empty() || groups.next().is_some()
        }
        _ => false,
    };
    inside || !block.damage.is_empty()
}

fn role(role: &Role) -> Value {
    match role {
        Role::Header { copy } => json!({"role": "header", "copy": copy}),
        Role::Root { part } => json!({"role": "root", "part": part}),
        Role::FreeMap { part } => json!({"role": "free_map", "part": part}),
        Role::DirectoryPage { number } => json!({"role": "directory_page", "number": number}),
        Role::Page { segment, page } => json!({"role": "page", "segment": segment, "page": page}),
        Role::Free => json!({"role": "free"}),
        Role::Unreachable => json!({"role": "unreachable"}),
        _ => json!({"role": "unknown"}),
    }
}

fn holds(content: &Content) -> &'static str {
    match content {
        Content::Header(_) => "header",
        Content::Root(_) => "root",
        Content::FreeMap(_) => "free_map",
        Content::DirectoryPage(_) => "directory_page",
        Content::Page(_) => "page",
        Content::Zeros => "zeros",
        _ => "other",
    }
}

fn content(content: &Content) -> Value {
    match content {
        Content::Header(copy) => header(copy),
        Content::Root(root) => {
            let runs = root.runs.iter().map(|run| {
                json!({
                    "first": run.first,
                    "entries": run.entries,
                    "block": run.block,
                    "crc": short(run.crc),
                })
            });
            json!({"runs": runs.collect::<Vec<_>>(), "damage": one(root.damage.as_ref())})
        }
        Content::FreeMap(map) => json!({
            "first": map.first,
            "blocks": map.blocks,
            "free": map.free,
            "in_use": map.in_use,
            "damage": one(map.damage.as_ref()),
        }),
        Content::DirectoryPage(page) => directory_page(page),
        Content::Page(found) => page(found),
        _ => Value::Null,
    }
}

/// A search for a key, step by step.
pub fn search(search: &Search) -> Value {
    let page = search.page.as_ref().map(|page| {
        json!({
            "number": page.number,
            "block": page.block,
            "crc": short(page.crc),
            "prefix": short(page.prefix),
            "depth": page.depth,
        })
    });
    let (result, found) = match &search.result {
        SearchResult::Found(found) => ("found", entry(found)),
        SearchResult::Absent => ("absent", Value::Null),
        SearchResult::Unknown => ("unknown", Value::Null),
    };
    let mut fields = serde_json::Map::new();
    fields.insert("type".into(), json!("key"));
    bytes(&mut fields, "key", Some(&search.key));
    for (name, value) in [
        ("hash", json!(long(search.hash))),
        ("hash_id", json!(search.hash_id)),
        ("h2", json!(search.h2())),
        ("fp", json!(search.fp())),
        ("root", run(search.root)),
        ("root_depth", json!(search.root_depth)),
        ("root_entry", json!(search.root_entry)),
        ("directory_page", json!(page)),
        ("segment", json!(search.segment.as_ref().map(segment_record))),
        ("groups", json!(search.groups)),
        ("home", json!(search.home)),
        ("steps", search.steps.iter().map(step).collect()),
        ("result", json!(result)),
        ("entry", found),
        ("news", news(&search.news)),
        ("damage", all(&search.damage)),
    ] {
        fields.insert(name.into(), value);
    }
    Value::Object(fields)
}

/// Whether anything on the way of a search, or behind L, is damaged.
pub fn search_is_damaged(search: &Search) -> bool {
    let slots = search.steps.iter().flat_map(|step| &step.candidates);
    let mut slots = slots.flat_map(|slot| &slot.damage);
    let news = search.news.damage.is_some();
    let unread = search.result == SearchResult::Unknown;
    news || unread || !search.damage.is_empty() || slots.next().is_some()
}

fn step(step: &Step) -> Value {
    json!({
        "group": step.group,
        "page": step.page,
        "block": step.block,
        "offset": step.offset,
        "control": step.control,
        "candidates": step.candidates.iter().map(candidate).collect::<Vec<_>>(),
        "has_empty": step.has_empty,
    })
}

fn candidate(slot: &Candidate) -> Value {
    let mut fields = serde_json::Map::new();
    fields.insert("slot".into(), json!(slot.slot));
    fields.insert("fp".into(), json!(slot.fp));
    fields.insert("key_length".into(), json!(slot.key_length));
    bytes(&mut fields, "key", slot.key.as_deref());
    let verdict = match slot.verdict {
        Verdict::OtherFp => "other_fp",
        Verdict::OtherLength => "other_length",
        Verdict::OtherHash => "other_hash",
        Verdict::OtherKey => "other_key",
        Verdict::Same => "same",
        Verdict::Unknown => "unknown",
    };
    fields.insert("verdict".into(), json!(verdict));
    fields.insert("damage".into(), all(&slot.damage));
    Value::Object(fields)
}

fn news(news: &News) -> Value {
    let place = |at: swissdb::inspect::Position| {
        json!({
            "file": at.file, "salt": short(at.salt), "offset": at.offset, "commit": at.commit,
        })
    };
    let newer = news.newer.iter().map(|newer| {
        json!({
            "file": newer.file,
            "commit": newer.commit,
            "operation": operation(&newer.operation),
        })
    });
    json!({
        "from": place(news.from),
        "to": place(news.to),
        "records": news.records,
        "newer": newer.collect::<Vec<_>>(),
        "more": news.more,
        "is_there": news.is_there(),
        "damage": one(news.damage.as_ref()),
    })
}
