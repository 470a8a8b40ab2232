//! Sets and maps: what values are members, and what a member stands for.

use super::table::Verdict;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

/// What a member of a map stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing: it is a set.
    None,
    /// A value for a register.
    Value(Vec<u8>),
    /// What is to happen.
    Verdict(Verdict),
}

/// A set whose members do not change.
#[derive(Clone, Debug)]
pub enum Set {
    /// Single values.
    Exact(HashMap<Vec<u8>, Data>),
    /// Where intervals begin, and (`None`) where there is nothing from then on.
    Intervals(BTreeMap<Vec<u8>, Option<Data>>),
    /// First and last value of each field, the fields' lengths, and the data: concatenations of intervals.
    Fields(Vec<usize>, Vec<(Vec<u8>, Vec<u8>, Data)>),
}

impl Set {
    /// The longest key of the set's members that it compares; keys are cut to the length of the registers.
    pub fn find(&self, key: &[u8]) -> Option<&Data> {
        match self {
            Set::Exact(members) => members.get(key),
            Set::Intervals(starts) => {
                let (_, data) = starts
                    .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
                    .next_back()?;
                data.as_ref()
            }
            Set::Fields(lengths, members) => members
                .iter()
                .find(|(first, last, _)| inside(lengths, first, last, key))
                .map(|(_, _, data)| data),
        }
    }

    /// How many members [`Set::find`] looks at.
    pub fn work(&self) -> usize {
        match self {
            Set::Exact(_) | Set::Intervals(_) => 1,
            Set::Fields(_, members) => members.len() + 1,
        }
    }

    /// All that its members stand for.
    pub fn data(&self) -> Vec<&Data> {
        match self {
            Set::Exact(members) => members.values().collect(),
            Set::Intervals(starts) => starts.values().flatten().collect(),
            Set::Fields(_, members) => members.iter().map(|(_, _, data)| data).collect(),
        }
    }
}

fn inside(lengths: &[usize], first: &[u8], last: &[u8], key: &[u8]) -> bool {
    let mut at = 0;
    lengths.iter().all(|&length| {
        let range = at..at + length;
        let fits = match (first.get(range.clone()), last.get(range.clone()), key.get(range)) {
            (Some(first), Some(last), Some(key)) => first <= key && key <= last,
            _ => false,
        };
        at += length.next_multiple_of(4);
        fits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_end_before_their_end() {
        let mut starts = BTreeMap::new();
        starts.insert(vec![0], None);
        starts.insert(vec![10], Some(Data::None));
        starts.insert(vec![20], None);
        let set = Set::Intervals(starts);
        let found: Vec<_> = [5, 10, 19, 20].iter().map(|n| set.find(&[*n]).is_some()).collect();
        assert_eq!(found, [false, true, true, false]);
    }

    #[test]
    fn concatenated_intervals_compare_field_by_field() {
        let (first, last) = (vec![10, 0, 0, 0, 0, 80, 0, 0], vec![10, 0, 0, 255, 0, 90, 0, 0]);
        let set = Set::Fields(vec![4, 2], vec![(first, last, Data::None)]);
        assert!(set.find(&[10, 0, 0, 9, 0, 85, 0, 0]).is_some());
        assert!(set.find(&[10, 0, 0, 9, 0, 91, 0, 0]).is_none());
        assert!(set.find(&[10, 0, 1, 0, 0, 85, 0, 0]).is_none());
    }
}
