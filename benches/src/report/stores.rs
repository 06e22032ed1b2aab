//! The stores of the comparison: their order, colours and marks.
//!
//! `HashMap` and `hashbrown` are *floors*: they keep nothing on a disk and are
//! shown to say what memory alone can do. `swissdb-default` is ours with other
//! settings: it has a column, and is neither what the comparison is about nor a peer.
//! The other stores are *peers*; one that is not known here is a peer, too, and comes
//! after the known ones.
//!
//! The colours are those of Okabe and Ito, which most people tell apart however
//! they see colours; marks and written names say the same a second time.

use plotters::style::RGBColor;

/// The store that the comparison is about.
pub const OURS: &str = "swissdb";
/// The same with every default.
const OURS_BY_DEFAULT: &str = "swissdb-default";
/// The floor that every aim is held against.
pub const HASH_MAP: &str = "HashMap";

const KNOWN: [(&str, RGBColor); 10] = [
    (OURS, RGBColor(213, 94, 0)),
    (OURS_BY_DEFAULT, RGBColor(235, 160, 110)),
    ("redb", RGBColor(0, 114, 178)),
    ("lmdb", RGBColor(86, 180, 233)),
    ("lmdb-writemap", RGBColor(90, 90, 200)),
    ("sled", RGBColor(0, 158, 115)),
    ("fjall", RGBColor(230, 159, 0)),
    ("rocksdb", RGBColor(204, 121, 167)),
    (HASH_MAP, RGBColor(120, 120, 120)),
    ("hashbrown", RGBColor(170, 170, 170)),
];

/// Where the first floor stands among the known ones.
const FLOORS: usize = 8;

/// Whether a store is a floor.
pub fn is_floor(store: &str) -> bool {
    KNOWN[FLOORS..].iter().any(|(name, _)| *name == store)
}

/// Whether a store is a peer of ours.
pub fn is_peer(store: &str) -> bool {
    store != OURS && store != OURS_BY_DEFAULT && !is_floor(store)
}

/// All stores that are known as peers.
pub fn known_peers() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|(name, _)| *name).filter(|name| is_peer(name))
}

/// The place of a store: ours, known peers, other peers by name, floors.
pub fn order(store: &str) -> (usize, &str) {
    match KNOWN.iter().position(|(name, _)| *name == store) {
        Some(place) if place < FLOORS => (place, store),
        Some(place) => (place + 1, store),
        None => (FLOORS, store),
    }
}

/// Names in order, each once.
pub fn in_order<'a>(stores: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut stores: Vec<&str> = stores.collect();
    stores.sort_by_key(|store| order(store));
    stores.dedup();
    stores.into_iter().map(str::to_owned).collect()
}

/// The colour of a store; of unknown ones a dark one.
pub fn colour(store: &str) -> RGBColor {
    let known = KNOWN.iter().find(|(name, _)| *name == store);
    known.map_or(RGBColor(70, 40, 110), |(_, colour)| *colour)
}

/// The number of the mark of a store.
pub fn mark(store: &str) -> usize {
    order(store).0
}
