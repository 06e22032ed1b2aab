//! Where the groups of a segment lie: looked up, not computed.
//!
//! A group has a number in its segment. Its page, its place in the page and that of
//! the page word in the descriptor follow from it by a division and some shifts,
//! the same ones again and again; a table of 256 of them stays in the first cache.
//! It has an entry for every byte, so a number needs no check: those that no
//! segment has, which only a late reader comes to, lead to the first group.
//!
//! ```text
//! bits  0 ..  8   first word of the group in its page
//!      16 .. 18   word of the descriptor with its page word
//!      24 .. 29   bit of that word where it begins: 0 or 32
//! ```

use crate::format::group::Geometry;

/// Groups that a segment has at most: sixteen pages of sixteen.
const GROUPS: usize = 256;

/// A place for each group of a segment.
pub(crate) struct Places([u32; GROUPS]);

/// That of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u32);

impl Places {
    /// Those of a geometry.
    pub(crate) fn new(geometry: &Geometry) -> Places {
        assert!(geometry.groups_per_segment <= GROUPS);
        Places(std::array::from_fn(|number| {
            let known = if number < geometry.groups_per_segment { number } else { 0 };
            let (page, group) = geometry.page_of(known);
            let start = group * geometry.group_words;
            (start | (page / 2) << 16 | (page % 2 * 32) << 24) as u32
        }))
    }

    /// That of the group of a number; of some group, if no segment has that many.
    #[inline(always)]
    pub(crate) fn of(&self, number: usize) -> Place {
        Place(self.0[number % GROUPS])
    }
}

impl Place {
    /// The first word of the group in its page: that page has all of the group.
    #[inline(always)]
    pub(crate) fn start(self) -> usize {
        usize::from(self.0 as u16)
    }

    /// The word of the descriptor that has the page word, below 8.
    #[inline(always)]
    pub(crate) fn word(self) -> usize {
        usize::from((self.0 >> 16) as u8) & 7
    }

    /// The page word, of that word.
    #[inline(always)]
    pub(crate) fn page_word(self, word: u64) -> u32 {
        (word >> (self.0 >> 24 & 63)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::group::PAGE_WORDS;

    #[test]
    fn every_group_of_every_geometry_has_its_place_and_other_numbers_some() {
        for payload in (24..=504).step_by(8) {
            let geometry = Geometry::new(payload).unwrap();
            let places = Places::new(&geometry);
            for number in 0..1000 {
                let place = places.of(number);
                assert!(place.word() < 8 && place.start() + geometry.group_words <= PAGE_WORDS);
                if number < geometry.groups_per_segment {
                    let (page, group) = geometry.page_of(number);
                    let halves = [page as u64, page as u64 + 77];
                    let word = halves[page % 2] << (32 * (page % 2)) | 9 << (32 * (1 - page % 2));
                    assert_eq!(place.page_word(word), halves[page % 2] as u32);
                    assert_eq!(
                        (place.word(), place.start()),
                        (page / 2, group * geometry.group_words)
                    );
                }
            }
        }
    }
}
