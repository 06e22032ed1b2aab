//! Operations that the input chooses, on a store and on a map alike.
//!
//! Reopening, killing, checkpoints and compaction are operations like inserting.
//! The store must answer as the map does, always; and verify itself at the end,
//! after a kill, and after closing. First byte: the slot payload and the hash.

#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use swissdb::storage::memory::Memory;
use swissdb::{Batch, Db, HashKind, Options, Table, TableOptions};
use swissdb_fuzz::check::look;
use swissdb_fuzz::gate::{Gate, closed};
use swissdb_fuzz::input::Input;
use swissdb_fuzz::recipe::{State, options};

/// Operations of an input, at most.
const STEPS: usize = 100;
/// The tables that are used.
const TABLES: [&str; 3] = ["default", "second", "third"];

/// A store beside what it should hold.
struct Pair {
    memory: Memory,
    db: Option<Db>,
    options: Options,
    expected: State,
    /// Distinguishes the values of different operations.
    serial: u64,
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let how = input.u8();
    let payload = [24, 56, 120, 504][usize::from(how) % 4];
    let kind = if how & 4 == 0 { HashKind::Sip } else { HashKind::Fast };
    let memory = Memory::new();
    let expected = State::from([("default".to_string(), BTreeMap::new())]);
    let options = options().payload(payload).hash(kind);
    let mut pair = Pair { memory, db: None, options, expected, serial: 0 };
    pair.open();
    for _ in 0..STEPS {
        if !input.more() {
            break;
        }
        pair.step(&mut input);
    }
    pair.compare();
    pair.kill();
    pair.compare();
    pair.reopen();
    pair.compare();
    pair.db.take().expect("open").close().expect("close");
});

impl Pair {
    fn open(&mut self) {
        let storage = Gate::around(Arc::new(self.memory.clone()));
        self.db = Some(self.options.open_on(Arc::new(storage)).expect("open"));
    }

    fn reopen(&mut self) {
        self.db.take().expect("open").close().expect("close");
        self.open();
    }

    /// Goes on with what a kill at this moment leaves.
    fn kill(&mut self) {
        self.memory = closed(|| self.memory.copy().expect("memory for a copy"));
        self.db = None;
        self.open();
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("open")
    }

    fn table(&mut self, number: u8) -> (&'static str, Table) {
        let name = TABLES[usize::from(number) % 16 % TABLES.len()];
        self.expected.entry(name.into()).or_default();
        let options = TableOptions::new().payload(64);
        (name, self.db().create_table(name, &options).expect("table"))
    }

    fn map(&mut self, name: &str) -> &mut BTreeMap<Vec<u8>, Vec<u8>> {
        self.expected.get_mut(name).expect("a table that is there")
    }

    /// A value nobody else has written, of a length that the byte chooses.
    fn value(&mut self, choice: u8) -> Vec<u8> {
        self.serial += 1;
        let length = match choice {
            0..150 => usize::from(choice) / 2,
            150..220 => usize::from(choice) * 3,
            220..250 => usize::from(choice) * 20,
            _ => usize::from(choice) * 400,
        };
        let pattern = self.serial.to_le_bytes();
        pattern.iter().copied().cycle().take(length).collect()
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let (step, number) = (input.u8(), input.u16());
        match step % 64 {
            0..=24 => self.insert(step / 64, number, input.u8()),
            25..=38 => self.remove(step / 64, number),
            39..=44 => {
                let choice = input.u8();
                (0..number % 100).for_each(|i| self.insert(step / 64, i ^ number, choice));
            }
            45..=48 => (0..number % 100).for_each(|i| self.remove(step / 64, i ^ number)),
            49..=52 => self.batch(number % 40, input),
            53 => self.clear(step / 64),
            54 => self.drop_table(step / 64),
            55 | 56 => self.db().checkpoint().expect("checkpoint"),
            57 => self.db().sync().expect("sync"),
            58 => drop(self.db().compact().expect("compact")),
            59 | 60 => self.reopen(),
            61 | 62 => self.kill(),
            _ => self.compare(),
        }
    }

    fn insert(&mut self, table: u8, number: u16, choice: u8) {
        let (name, table) = self.table(table);
        let (key, value) = (key(number), self.value(choice));
        table.insert(&key, &value).expect("insert");
        assert!(table.get(&key).expect("get").as_deref() == Some(&value[..]), "what was inserted");
        self.map(name).insert(key, value);
    }

    fn remove(&mut self, table: u8, number: u16) {
        let (name, table) = self.table(table);
        let key = key(number);
        let removed = table.remove(&key).expect("remove");
        assert_eq!(removed, self.map(name).remove(&key).is_some(), "whether it was there");
        assert!(!table.contains_key(&key).expect("contains"), "what was removed");
    }

    fn batch(&mut self, count: u16, input: &mut Input<'_>) {
        let mut batch = Batch::new();
        for _ in 0..count {
            let (number, choice) = (input.u16(), input.u8());
            let (name, table) = self.table(choice % 3);
            let key = key(number);
            if choice % 4 == 0 {
                batch.remove_from(&table, &key).expect("add");
                self.map(name).remove(&key);
            } else {
                let value = self.value(choice);
                batch.insert_into(&table, &key, &value).expect("add");
                self.map(name).insert(key, value);
            }
        }
        self.db().write(&batch).expect("write");
    }

    fn clear(&mut self, table: u8) {
        let (name, table) = self.table(table);
        table.clear().expect("clear");
        self.map(name).clear();
    }

    fn drop_table(&mut self, table: u8) {
        let name = TABLES[1 + usize::from(table) % 2];
        let there = self.db().drop_table(name).expect("drop");
        assert_eq!(there, self.expected.remove(name).is_some(), "whether there was a table");
    }

    fn compare(&self) {
        let found = look(self.db()).expect("nothing is damaged");
        assert!(found == self.expected, "other entries than in the map");
    }
}

/// The key of a number: some of every kind that spills.
fn key(number: u16) -> Vec<u8> {
    let length = match number {
        0 => 0,
        1 => 32_767,
        _ => [8, 8, 16, 24, 40, 80, 600][usize::from(number) % 7],
    };
    number.to_le_bytes().iter().copied().cycle().take(length).collect()
}
