//! How many addresses a reservation may have, so that there are always some left.
//!
//! A table reserves the addresses of all memory that it may ever need, which costs
//! nothing but addresses: 64 GiB of them. There may be 65,536 tables, and as many
//! again for each snapshot that is read, and the host program maps memory too. So
//! what the process reserves is counted, for all of its stores together:
//!
//! ```text
//! addresses of the process  ├─ shares: 1/4 ─┼─ floor: 1/4 ─┼─ others: 1/2 ───────┤
//! ```
//!
//! A reservation takes all that it wants, but at most a [small share](SHARES) of
//! what is left of the first quarter: that never comes to an end. When the shares are
//! smaller than the *floor*, a millionth of all addresses, each takes that. Four
//! reservations for each of 65,536 tables are the second quarter. What a table
//! cannot do without, because it is that large already, it takes in any case.
//!
//! On x86-64, where there are 128 TiB, the first 250 tables get all that they want,
//! and after some 1,000 more each reservation is one of 128 MiB.
//!
//! This module hands out numbers; the memory is mapped by [`Map`](super::Map). All
//! threads may ask at once.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use memmap2::MmapOptions;

/// The part of what is left that one reservation takes at most.
const SHARES: u64 = 512;
/// The part of all addresses that each may take, however many there are: as a
/// logarithm.
const FLOOR: u32 = 20;

/// The bytes that are reserved now, by the whole process.
static RESERVED: AtomicU64 = AtomicU64::new(0);

/// The right to reserve so many bytes of addresses. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share(u64);

impl Share {
    /// A share of `most` bytes, or of fewer, but not of fewer than `least`.
    pub(super) fn take(most: usize, least: usize) -> Share {
        let of = |reserved| share(space(), reserved, most as u64, least as u64);
        let add = |reserved| Some(reserved + of(reserved));
        let (Ok(before) | Err(before)) = RESERVED.fetch_update(Relaxed, Relaxed, add);
        Share(of(before))
    }

    /// How many bytes it is of.
    pub(super) fn bytes(&self) -> usize {
        self.0 as usize
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        RESERVED.fetch_sub(self.0, Relaxed);
    }
}

/// How much of `space` the next reservation gets. If `most` and `least` are powers of
/// two, it is one.
fn share(space: u64, reserved: u64, most: u64, least: u64) -> u64 {
    let left = (space / 4).saturating_sub(reserved);
    let share = (left / SHARES).max(space >> FLOOR);
    most.min(1 << share.ilog2()).max(least)
}

/// The number of addresses that this process has for itself. Estimated once.
fn space() -> u64 {
    static SPACE: OnceLock<u64> = OnceLock::new();
    *SPACE.get_or_init(|| {
        let map = MmapOptions::new().len(1).map_anon();
        estimate(map.map_or(0, |map| map.as_ptr().addr() as u64))
    })
}

/// The same, given an address that the system chose.
fn estimate(address: u64) -> u64 {
    if cfg!(target_os = "linux") {
        // The topmost addresses are given out first. Where they are not, this is less
        // than there are; no processor of 64 bits has fewer than 38 for programs.
        address.next_power_of_two().max(1 << 38)
    } else {
        // Low ones are given out first, which says nothing. Whoever has fewer refuses.
        1 << 47
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    /// What a table would like: two ranges for its directory, and two for copies.
    const WANTED: [u64; 4] = [32 * GIB, 16 * GIB, 16 * GIB, GIB / 4];

    /// What that many tables get, each, in all.
    fn tables(space: u64, count: usize) -> Vec<u64> {
        let mut reserved = 0;
        let one = |_| {
            let before = reserved;
            for most in WANTED {
                reserved += share(space, reserved, most, 1 << 16);
            }
            reserved - before
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn the_first_tables_get_all_that_they_want() {
        let got = tables(1 << 47, 250);
        assert!(got.iter().all(|got| *got == WANTED.iter().sum()));
    }

    #[test]
    fn any_number_of_tables_leaves_half_of_the_addresses() {
        for bits in 38..=48 {
            let got = tables(1 << bits, 65_536);
            assert!(got.iter().sum::<u64>() <= 1 << (bits - 1), "{bits}");
            assert!(got.is_sorted_by(|a, b| a >= b), "{bits}");
            // Never less than a table of a hundred megabytes needs.
            assert!(*got.last().unwrap() >= 1 << (bits - 18), "{bits}");
        }
    }

    #[test]
    fn what_is_needed_is_given_in_any_case() {
        let space = 1 << 39;
        assert_eq!(share(space, space, 1 << 34, 1 << 30), 1 << 30);
        assert_eq!(share(space, space, 1 << 34, 1 << 16), 1 << 19);
        assert_eq!(share(space, 0, 1 << 12, 1 << 12), 1 << 12);
    }

    #[test]
    fn the_space_is_what_lies_below_the_topmost_addresses() {
        if cfg!(target_os = "linux") {
            assert_eq!(estimate(0x7f12_3456_7000), 1 << 47);
            assert_eq!(estimate(0x7f_1234_5000), 1 << 39);
            assert_eq!(estimate(0x10_0000), 1 << 38);
        }
        assert!(space() >= 1 << 38);
    }

    #[test]
    fn a_share_is_given_back() {
        let share = Share::take(1 << 20, 1 << 12);
        assert_eq!(share.bytes(), 1 << 20);
        assert!(RESERVED.load(Relaxed) >= 1 << 20);
        drop(share);
    }
}
