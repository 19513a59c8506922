//! The most recent of many things, bounded in number and in bytes.
//!
//! Two maps: what is used is in the young one; when that is full it becomes the old one, and what was in the old one and has not been used since is
//! dropped. No list is kept in order, so that a look costs a hash and no more.

use std::{borrow::Borrow, hash::Hash, mem};

use foldhash::{HashMap, HashMapExt};

/// Things by key.
pub(crate) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    weight: usize,
    count_max: usize,
    weight_max: usize,
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    /// At most so many, and about so much in weight.
    pub(crate) fn new(count_max: usize, weight_max: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            weight: 0,
            count_max: count_max / 2,
            weight_max: weight_max / 2,
        }
    }

    /// What is there, and whether it is about to be dropped: insert it again then.
    pub(crate) fn get<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> Option<(V, bool)>
    where
        K: Borrow<Q>,
    {
        let young = self.young.get(key).map(|value| (value.clone(), false));
        young.or_else(|| self.old.get(key).map(|value| (value.clone(), true)))
    }

    pub(crate) fn insert(&mut self, key: K, value: V, weight: usize) {
        if self.young.len() >= self.count_max || self.weight + weight > self.weight_max {
            self.old = mem::take(&mut self.young);
            self.weight = 0;
        }
        self.old.remove(&key);
        self.weight += weight;
        self.young.insert(key, value);
    }
}
