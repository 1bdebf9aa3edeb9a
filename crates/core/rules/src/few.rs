//! Sets that nearly always have one value.

use std::{collections::BTreeSet, mem};

/// A set that needs no heap for its first value.
#[derive(Debug, Default)]
#[allow(
    clippy::box_collection,
    reason = "there are many of these, and few of the large ones"
)]
pub(crate) enum Few<T> {
    #[default]
    None,
    One(T),
    Many(Box<BTreeSet<T>>),
}

impl<T: Ord> Few<T> {
    pub(crate) fn insert(&mut self, value: T) {
        *self = match mem::take(self) {
            Self::None => Self::One(value),
            Self::One(one) if one == value => Self::One(one),
            Self::One(one) => Self::Many(Box::new([one, value].into())),
            Self::Many(mut many) => {
                many.insert(value);
                Self::Many(many)
            }
        };
    }

    pub(crate) fn remove(&mut self, value: &T) {
        match self {
            Self::One(one) if one == value => *self = Self::None,
            Self::Many(many) => {
                many.remove(value);
            }
            Self::None | Self::One(_) => {}
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(one) => (Some(one), None),
            Self::Many(many) => (None, Some(many.iter())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_set_at_every_size() {
        let mut few = Few::default();
        assert!(few.is_empty());
        for n in [2, 2, 1, 3, 1] {
            few.insert(n);
        }
        assert_eq!(few.iter().collect::<Vec<_>>(), [&1, &2, &3]);
        for n in [2, 4, 1, 3] {
            assert!(!few.is_empty());
            few.remove(&n);
        }
        assert!(few.is_empty());
        few.insert(7);
        few.remove(&8);
        assert_eq!(few.iter().collect::<Vec<_>>(), [&7]);
    }
}
