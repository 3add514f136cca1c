//! Objects that are kept as a delta of another one.
//!
//! Source: git, Documentation/gitformat-pack.txt, "Deltified representation": the sizes of both objects, seven bits to a
//! byte, then commands that copy a part of the one or bring bytes of their own.

use crate::support::{Error, Result};

/// Makes of `base` what `delta` says of it, in `out`.
pub(super) fn apply(base: &[u8], delta: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let mut delta = Delta(delta);
    let (before, after) = (delta.size()?, delta.size()?);
    if before != base.len() {
        return Err(wrong("it is one of another object"));
    }
    out.clear();
    if after > out.capacity() {
        out.try_reserve_exact(after).map_err(|_| wrong("there is no memory for what it makes"))?;
    }
    while let Some(command) = delta.next() {
        let part = match command {
            0 => return Err(wrong("it has a command that nobody knows")),
            1..=0x7f => delta.take(command.into())?,
            _ => {
                let (from, size) = (delta.number(command & 0x0f)?, delta.number(command >> 4 & 0x07)?);
                let size = if size == 0 { 0x10000 } else { size };
                from.checked_add(size)
                    .and_then(|end| base.get(from..end))
                    .ok_or_else(|| wrong("it copies what is not there"))?
            }
        };
        if part.len() > after - out.len() {
            return Err(wrong("it makes more than it says"));
        }
        out.extend_from_slice(part);
    }
    if out.len() == after { Ok(()) } else { Err(wrong("it makes less than it says")) }
}

/// What was not read yet.
struct Delta<'a>(&'a [u8]);

impl<'a> Delta<'a> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(cut)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A size: seven bits of each byte, the lowest first, as long as the eighth is set.
    fn size(&mut self) -> Result<usize> {
        let mut size: u64 = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.next().ok_or_else(cut)?;
            size |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return usize::try_from(size).map_err(|_| wrong("it is too large"));
            }
        }
        Err(wrong("it is too large"))
    }

    /// A number of which the bytes are there whose bits are set, the lowest first.
    fn number(&mut self, bits: u8) -> Result<usize> {
        let mut number = 0;
        for at in (0..4).filter(|at| bits >> at & 1 == 1) {
            number |= usize::from(self.next().ok_or_else(cut)?) << (8 * at);
        }
        Ok(number)
    }
}

fn cut() -> Error {
    wrong("it is cut off")
}

fn wrong(why: &str) -> Error {
    Error::new(format!("a delta is damaged: {why}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn applied(base: &[u8], delta: &[u8]) -> Result<Vec<u8>> {
        let mut out = b"what was there before".to_vec();
        apply(base, delta, &mut out).map(|()| out)
    }

    #[test]
    fn parts_are_copied_and_brought_along() {
        let base: Vec<u8> = (0..70_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        // Both sizes, then 65,536 bytes of the base, three that are new, and two of the base again.
        let mut delta = vec![0xf0, 0xa2, 0x04, 0x85, 0x80, 0x04, 0x80];
        delta.extend([3, b'n', b'e', b'w', 0x91, 2, 2]);
        let out = applied(&base, &delta).unwrap();
        assert_eq!(out.len(), 0x10005);
        assert_eq!(out[..0x10000], base[..0x10000], "no size is the largest");
        assert_eq!(&out[0x10000..], [b"new".as_slice(), &base[2..4]].concat());
    }

    #[test]
    fn what_is_no_delta_of_the_object_is_an_error() {
        let refused = |delta: &[u8]| applied(b"abc", delta).unwrap_err().one_line();
        assert_eq!(applied(b"abc", &[3, 2, 0x90, 2]).unwrap(), b"ab");
        for (delta, why) in [
            (&[2, 2, 0x90, 2][..], "it is one of another object"),
            (&[3, 2, 0x91, 2, 2], "it copies what is not there"),
            (&[3, 2, 0x9f, 0xff, 0xff, 0xff, 0xff, 2], "it copies what is not there"),
            (&[3, 1, 0x90, 2], "it makes more than it says"),
            (&[3, 3, 0x90, 2], "it makes less than it says"),
            (&[3, 2, 0], "it has a command that nobody knows"),
            (&[3, 2, 5, b'a'], "it is cut off"),
            (&[3, 2, 0x91, 2], "it is cut off"),
            (&[0x83], "it is cut off"),
            (&[3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], "it is too large"),
            (&[3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], "there is no memory for what it makes"),
        ] {
            assert_eq!(refused(delta), format!("a delta is damaged: {why}"));
        }
    }

    proptest! {
        #[test]
        fn nonsense_makes_no_more_than_it_says(mut base: Vec<u8>, mut delta: Vec<u8>, after in 0_u8..128) {
            base.truncate(127);
            delta.insert(0, after);
            delta.insert(0, u8::try_from(base.len()).unwrap());
            if let Ok(out) = applied(&base, &delta) {
                prop_assert_eq!(out.len(), usize::from(after));
            }
        }
    }
}
