//! Objects that were read lately, for those that are deltas of them.

use std::collections::HashMap;
use std::ops::Range;

use gix_object::Kind;

use super::packs::Place;

/// So many bytes of what others are deltas of each reader keeps, twice.
const GENERATION: usize = 512 << 10;

/// What is larger is not kept.
const LARGEST_KEPT: usize = 256 << 10;

/// What was read lately, and may be what others are deltas of.
///
/// Two blocks of memory, and not a piece for each object: the memory of a thread may grow by a system call for each
/// piece, for which all threads wait. Each reader has its own, since whoever reads much does it in the order in which
/// objects lie (see [`order`](super::order)): one for all would be locked for each object.
#[derive(Default)]
pub(super) struct Kept {
    young: Generation,
    old: Generation,
}

#[derive(Default)]
struct Generation {
    bytes: Vec<u8>,
    places: HashMap<Place, (Kind, Range<usize>)>,
}

impl Kept {
    /// Copies an object that is kept to `into`, and answers its kind.
    pub(super) fn get(&self, place: Place, into: &mut Vec<u8>) -> Option<Kind> {
        [&self.young, &self.old].into_iter().find_map(|generation| {
            let (kind, range) = generation.places.get(&place)?;
            into.clear();
            into.extend_from_slice(&generation.bytes[range.clone()]);
            Some(*kind)
        })
    }

    /// Keeps an object, if it is small. Where there is no room, the older half of what is kept is forgotten.
    pub(super) fn put(&mut self, place: Place, kind: Kind, bytes: &[u8]) {
        if bytes.len() > LARGEST_KEPT {
            return;
        }
        if self.young.bytes.len() + bytes.len() > GENERATION {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.bytes.clear();
            self.young.places.clear();
        }
        let Generation { bytes: all, places } = &mut self.young;
        if all.capacity() == 0 {
            all.reserve_exact(GENERATION);
        }
        let begin = all.len();
        all.extend_from_slice(bytes);
        places.insert(place, (kind, begin..all.len()));
    }
}

#[cfg(test)]
mod tests {
    use gix_odb::pack::data::Offset;

    use super::*;

    fn place(at: Offset) -> Place {
        Place::new(0, at)
    }

    #[test]
    fn what_was_read_lately_is_kept_and_no_more_than_there_is_room_for() {
        let (mut kept, mut into) = (Kept::default(), b"before".to_vec());
        let each = vec![7; LARGEST_KEPT];
        let most = GENERATION / LARGEST_KEPT;
        for at in 0..=most {
            kept.put(place(at as Offset), Kind::Blob, &each);
        }
        kept.put(place(1000), Kind::Tree, b"small");
        assert_eq!(kept.get(place(1000), &mut into), Some(Kind::Tree));
        assert_eq!(into, b"small");
        assert_eq!(kept.get(place(0), &mut into), Some(Kind::Blob), "the older half is still there");
        assert_eq!(into, each);
        assert_eq!(kept.get(Place::new(1, 0), &mut into), None);
        kept.put(place(2000), Kind::Blob, &vec![7; LARGEST_KEPT + 1]);
        assert_eq!(kept.get(place(2000), &mut into), None, "it is too large");
        for at in most..=2 * most {
            kept.put(place(at as Offset), Kind::Blob, &each);
        }
        assert_eq!(kept.get(place(0), &mut into), None, "it is forgotten");
        assert!(kept.young.bytes.capacity() + kept.old.bytes.capacity() <= 2 * GENERATION);
    }
}
