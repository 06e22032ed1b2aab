//! The document and its schema say the same.
//!
//! Goal: whoever reads `tools/stats.schema.json` knows every field of the
//! document, and every field that it describes is there. Method: documents of
//! real stores in many states are held against the schema by a small validator,
//! which refuses keywords that it does not know. It also notes which fields it
//! met, with a value and with null: in the end each must have been met in every
//! way that the schema allows.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};
use swissdb::storage::memory::Memory;
use swissdb::{Db, HashKind, Options, TableOptions};

use super::{Look, document::document};

const SCHEMA: &str = include_str!("../../../stats.schema.json");

/// A document held against the schema.
struct Validator {
    schema: Value,
    /// Fields met, by their places in the schema, and whether with null.
    met: BTreeSet<(String, bool)>,
    complaints: Vec<String>,
}

impl Validator {
    fn new() -> Validator {
        let schema = serde_json::from_str(SCHEMA).expect("the schema is JSON");
        Validator { schema, met: BTreeSet::new(), complaints: Vec::new() }
    }

    /// Expects that a document is as the schema says.
    #[track_caller]
    fn check(&mut self, document: &Value) {
        self.validate(document, &self.schema.clone(), "#", "document");
        assert!(self.complaints.is_empty(), "{}\n{document:#}", self.complaints.join("\n"));
    }

    fn complain(&mut self, at: &str, what: impl std::fmt::Display) {
        self.complaints.push(format!("{at}: {what}"));
    }

    /// Holds a value against a part of the schema, which is at `place`.
    fn validate(&mut self, value: &Value, schema: &Value, place: &str, at: &str) {
        for (keyword, what) in schema.as_object().expect("a schema is an object") {
            match keyword.as_str() {
                "$schema" | "$id" | "$defs" | "title" | "description" => {}
                "$ref" => {
                    let place = what.as_str().expect("a reference is a string");
                    let name = place.strip_prefix("#/$defs/").expect("into the definitions");
                    let schema = self.schema["$defs"][name].clone();
                    self.validate(value, &schema, place, at);
                }
                "anyOf" => self.validate_any(value, list(what), place, at),
                "type" => {
                    let types = what.as_array().cloned().unwrap_or_else(|| vec![what.clone()]);
                    if !types.iter().any(|kind| is_of(value, text(kind))) {
                        self.complain(at, format_args!("{value} is not {what}"));
                    }
                }
                "enum" if !list(what).contains(value) => {
                    self.complain(at, format_args!("{value} is none of {what}"));
                }
                "enum" => {}
                "minimum" | "maximum" => {
                    let limit = what.as_f64().expect("a limit is a number");
                    let beyond = |v: f64| if keyword == "minimum" { v < limit } else { v > limit };
                    if value.as_f64().is_some_and(beyond) {
                        self.complain(at, format_args!("{value} is beyond the {keyword} {what}"));
                    }
                }
                "required" => {
                    for name in list(what).iter().filter(|name| value.get(text(name)).is_none()) {
                        self.complain(at, format_args!("{name} is missing"));
                    }
                }
                "items" => {
                    for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.validate(item, what, place, &format!("{at}[{i}]"));
                    }
                }
                "properties" => self.validate_fields(value, what, place, at),
                _ => panic!("{place}: the validator does not know {keyword}"),
            }
        }
    }

    fn validate_fields(&mut self, value: &Value, properties: &Value, place: &str, at: &str) {
        for (name, field) in value.as_object().into_iter().flatten() {
            match properties.get(name) {
                None => self.complain(at, format_args!("the schema does not know {name}")),
                Some(schema) => {
                    let place = format!("{place}/{name}");
                    self.met.insert((place.clone(), field.is_null()));
                    self.validate(field, schema, &place, &format!("{at}.{name}"));
                }
            }
        }
    }

    /// One of several schemas has to take a value; else the first one tells why
    /// it does not.
    fn validate_any(&mut self, value: &Value, any: &[Value], place: &str, at: &str) {
        let before = std::mem::take(&mut self.complaints);
        let mut told = Vec::new();
        for schema in any {
            self.validate(value, schema, place, at);
            told.push(std::mem::take(&mut self.complaints));
        }
        self.complaints = before;
        if told.iter().all(|complaints| !complaints.is_empty()) {
            self.complaints.append(&mut told[0]);
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("the validator does not know the type {kind}"),
    }
}

/// All fields that a schema describes: their places, and their schemas.
fn fields(place: &str, schema: &Value, into: &mut Vec<(String, Value)>) {
    let none = Map::new();
    for (name, field) in schema["properties"].as_object().unwrap_or(&none) {
        let place = format!("{place}/{name}");
        into.push((place.clone(), field.clone()));
        fields(&place, field, into);
    }
    for (name, definition) in schema["$defs"].as_object().unwrap_or(&none) {
        fields(&format!("#/$defs/{name}"), definition, into);
    }
}

/// Whether a field may be null.
fn may_be_null(schema: &Value) -> bool {
    let kinds = schema["type"].as_array().into_iter().flatten();
    let any = schema["anyOf"].as_array().into_iter().flatten().map(|schema| &schema["type"]);
    kinds.chain(any).any(|kind| kind == "null")
}

/// The document of a store.
fn look(db: &Db, quick: bool) -> Value {
    let look = Look::at(db, "my.swissdb".into(), None, quick).expect("look at the store");
    document(&look)
}

/// A store with entries of every shape, named tables, deletes and a
/// checkpoint.
fn fill(db: &Db) {
    let options = TableOptions::new().payload(104).hash(HashKind::Fast);
    let named = db.create_table("named", &options).expect("create a table");
    for i in 0..2_000usize {
        let (key, value) = ([3, 60, 200][i % 3], [0, 10, 5_000][i / 3 % 3]);
        let mut key = vec![b'k'; key];
        key.extend_from_slice(&i.to_le_bytes());
        db.insert(&key, vec![1; value]).expect("insert");
        named.insert(&key, vec![2; value / 2]).expect("insert");
        if i % 3 == 0 {
            named.remove(&key).expect("remove");
        }
    }
    db.checkpoint().expect("checkpoint");
}

/// A store of a few mebibytes with few entries per slot.
fn empty_out(db: &Db) {
    let table = db.table("sparse").expect("create a table");
    for i in 0..60_000u32 {
        table.insert(i.to_le_bytes(), [1; 40]).expect("insert");
    }
    let mut i = 0u32;
    while table.stats().utilisation() > 0.55 {
        table.remove(i.to_le_bytes()).expect("remove");
        i += 1;
    }
}

#[test]
fn every_field_is_in_the_schema_and_every_field_of_the_schema_is_there() {
    let mut validator = Validator::new();
    let memory = Arc::new(Memory::new());
    let db = Options::new().open_on(memory.clone()).expect("a new store");
    validator.check(&look(&db, false));
    validator.check(&look(&db, true));
    fill(&db);
    validator.check(&look(&db, false));
    empty_out(&db);
    let document = look(&db, false);
    assert_eq!(document["advice"][0]["kind"], "low_utilisation");
    assert_eq!(document["advice"][0]["command"], "swissdb compact my.swissdb");
    validator.check(&document);
    db.close().expect("close");
    let db = Options::new().read_only(true).open_on(memory).expect("open it again");
    let document = look(&db, false);
    assert_eq!(document["tables"][1]["survey"]["unreadable_segments"], 0);
    validator.check(&document);

    let mut described = Vec::new();
    fields("#", &validator.schema, &mut described);
    assert!(described.len() > 80, "the fields of the schema were not found");
    for (place, schema) in described {
        assert!(!text(&schema["description"]).is_empty(), "{place} is not described");
        let value = validator.met.contains(&(place.clone(), false));
        assert!(value, "no document has a value for {place}");
        let null = validator.met.contains(&(place.clone(), true));
        // Advice about the store, or about a setting, takes a long time to get.
        let rare = place.starts_with("#/$defs/advice/");
        assert!(null || rare || !may_be_null(&schema), "{place} was never null");
    }
}

#[test]
fn paths_in_commands_are_quoted_where_a_shell_would_split_them() {
    for (path, shown) in [
        ("a/b-1.swissdb", "a/b-1.swissdb"),
        ("my store", "'my store'"),
        ("it's", "'it'\\''s'"),
        ("$HOME", "'$HOME'"),
    ] {
        assert_eq!(super::quoted(path), shown);
    }
}

#[test]
fn the_validator_finds_what_is_wrong() {
    let db = Db::in_memory().expect("a new store");
    let good = look(&db, false);
    let wrong: [(&str, Value); 8] = [
        ("/commits", Value::Null),
        ("/commits", (-1).into()),
        ("/commits", 1.5.into()),
        ("/tables/0/slot_payload", 505.into()),
        ("/tables/0/hash", "md5".into()),
        ("/tables/0/survey", 7.into()),
        ("/tables/0/survey/hit_probes/count", "1".into()),
        ("/memory", Value::Object(Map::new())),
    ];
    for (place, value) in wrong {
        let mut bad = good.clone();
        *bad.pointer_mut(place).expect("a field of the document") = value;
        let mut validator = Validator::new();
        let schema = validator.schema.clone();
        validator.validate(&bad, &schema, "#", "document");
        assert!(!validator.complaints.is_empty(), "{place} was not found");
    }
    let mut more = good.clone();
    more["tables"][0]["colour"] = "red".into();
    let mut validator = Validator::new();
    validator.validate(&more, &validator.schema.clone(), "#", "document");
    assert_eq!(validator.complaints, ["document.tables[0]: the schema does not know colour"]);
}
