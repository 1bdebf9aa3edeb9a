//! A file on a disk that became read-only, for a library that writes when it opens one: what it writes is kept in memory.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::backend::Disk;

/// Bytes kept together.
const PAGE: usize = 4096;

/// The file below, and what was written over it.
#[derive(Debug)]
pub(crate) struct Overlay {
    below: Box<dyn Disk>,
    over: Mutex<Over>,
}

#[derive(Debug)]
struct Over {
    len: u64,
    /// What of the file below still counts: it was cut there.
    kept: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    pub(crate) fn new(below: Box<dyn Disk>) -> io::Result<Self> {
        let len = below.len()?;
        let over = Mutex::new(Over {
            len,
            kept: len,
            pages: BTreeMap::new(),
        });
        Ok(Self { below, over })
    }

    fn lock(&self) -> MutexGuard<'_, Over> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A page as the file below has it; zeros where it ends.
    fn page_below(&self, kept: u64, number: u64) -> io::Result<Vec<u8>> {
        let mut page = vec![0; PAGE];
        let from = number * PAGE as u64;
        let there = usize::try_from(kept.saturating_sub(from)).map_or(PAGE, |n| n.min(PAGE));
        self.below.read(from, &mut page[..there])?;
        Ok(page)
    }
}

/// The parts of a stretch of bytes that lie in one page each: the page, where in it, and where in the stretch.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let within = usize::try_from(at % PAGE as u64).unwrap_or(0);
        let size = (PAGE - within).min(len - done);
        let part = done..done + size;
        done += size;
        Some((at / PAGE as u64, within, part))
    })
}

impl Disk for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut over = self.lock();
        if len < over.len {
            over.kept = over.kept.min(len);
            over.pages.retain(|number, _| number * (PAGE as u64) < len);
            let within = usize::try_from(len % PAGE as u64).unwrap_or(0);
            if let Some(page) = over.pages.get_mut(&(len / PAGE as u64)) {
                page[within..].fill(0);
            }
        }
        over.len = len;
        Ok(())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let over = self.lock();
        if offset.saturating_add(out.len() as u64) > over.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, within, part) in parts(offset, out.len()) {
            let size = part.len();
            match over.pages.get(&number) {
                Some(page) => out[part].copy_from_slice(&page[within..within + size]),
                None => {
                    out[part].copy_from_slice(&self.page_below(over.kept, number)?[within..within + size])
                }
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut over = self.lock();
        for (number, within, part) in parts(offset, data.len()) {
            let kept = over.kept;
            let page = match over.pages.entry(number) {
                std::collections::btree_map::Entry::Occupied(page) => page.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => {
                    place.insert(self.page_below(kept, number)?)
                }
            };
            page[within..within + part.len()].copy_from_slice(&data[part]);
        }
        over.len = over.len.max(offset + data.len() as u64);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn what_is_written_over_a_file_is_read_and_the_file_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut model: Vec<u8> = (0..10_000_u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(&path, &model).unwrap();
        let before = model.clone();
        let overlay = Overlay::new(Box::new(File::open(&path).unwrap())).unwrap();
        let same = |model: &[u8]| {
            assert_eq!(overlay.len().unwrap(), model.len() as u64);
            let mut whole = vec![0; model.len()];
            overlay.read(0, &mut whole).unwrap();
            assert!(whole == model);
            let mut some = vec![0; model.len() / 2];
            overlay.read(17, &mut some).unwrap();
            assert!(some == model[17..17 + some.len()]);
            assert!(overlay.read(1, &mut whole).is_err());
        };
        same(&model);
        overlay.write(4000, &[1; 5000]).unwrap();
        model[4000..9000].fill(1);
        same(&model);
        // What was cut off does not come back.
        overlay.set_len(3000).unwrap();
        model.truncate(3000);
        same(&model);
        overlay.set_len(9000).unwrap();
        model.resize(9000, 0);
        same(&model);
        overlay.write(8999, &[7; 10_000]).unwrap();
        model.truncate(8999);
        model.resize(18_999, 7);
        same(&model);
        assert!(std::fs::read(&path).unwrap() == before);
    }
}
