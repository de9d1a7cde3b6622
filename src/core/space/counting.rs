//! How many configurations a finite search space has, and which one is at a rank.
//!
//! Without conditions that is a product of sizes. Conditions make it a count of models: a parent's
//! values are tried one by one, and whatever no longer depends on each other is counted by itself and
//! multiplied (as #SAT solvers do: Bayardo and Pehoushek 2000). So trees of conditions cost no more than
//! their length, and a list of independent branches costs no more than their sum.

use std::collections::{BTreeMap, BTreeSet};

use super::domain::{Domain, Parameter, Value, Values};

/// More different situations than this are not counted.
const BUDGET: usize = 20_000;

/// Counts the configurations of a finite space.
pub struct Counter<'a> {
    parameters: &'a [Parameter],
    /// By parameter: its values in stretches that all children see alike. Empty for one without children.
    stretches: Vec<Vec<Stretch>>,
    /// The count by group and the values of the parents outside of it.
    known: BTreeMap<(Vec<usize>, Vec<Option<u128>>), u128>,
}

/// Values of a parent, by rank, that all children see alike.
struct Stretch {
    /// The first.
    start: u128,
    /// How many.
    count: u128,
    /// The rank of the first value, of this stretch or an earlier one, that children see like these.
    like: u128,
}

/// The values of parents, as the rank of the first that children see alike; None where inactive or not decided yet.
type Parents = Vec<Option<u128>>;

impl<'a> Counter<'a> {
    /// For a space of these parameters, which must be finite.
    pub fn new(parameters: &'a [Parameter]) -> Counter<'a> {
        let stretches = (0..parameters.len()).map(|position| stretches(parameters, position)).collect();
        Counter { parameters, stretches, known: BTreeMap::new() }
    }

    /// How many configurations there are, saturating.
    pub fn size(&mut self) -> u128 {
        let everything: Vec<usize> = (0..self.parameters.len()).collect();
        let mut parents = vec![None; everything.len()];
        self.product(&everything, &mut parents)
    }

    /// Whether the space was too entangled: then no count is right.
    pub fn is_exhausted(&self) -> bool {
        self.known.len() >= BUDGET
    }

    /// The rank of each parameter's value in the configuration at `rank`; None where inactive.
    pub fn ranks(&mut self, rank: u128) -> Vec<Option<u128>> {
        let everything: Vec<usize> = (0..self.parameters.len()).collect();
        let mut ranks = vec![None; everything.len()];
        let mut parents = vec![None; everything.len()];
        self.place(&everything, rank, &mut parents, &mut ranks);
        ranks
    }

    fn place(&mut self, positions: &[usize], mut rank: u128, parents: &mut Parents, ranks: &mut [Option<u128>]) {
        for group in self.groups(positions) {
            let count = self.count(&group, parents).max(1);
            self.place_group(&group, rank % count, parents, ranks);
            rank /= count;
        }
    }

    fn place_group(&mut self, group: &[usize], mut rank: u128, parents: &mut Parents, ranks: &mut [Option<u128>]) {
        let Some((&first, rest)) = group.split_first() else {
            return;
        };
        if !self.is_active(first, parents) {
            return self.place(rest, rank, parents, ranks);
        }
        if rest.is_empty() {
            ranks[first] = Some(rank);
            return;
        }
        let last = self.stretches[first].len() - 1;
        for at in 0..=last {
            let Stretch { start, count, like } = self.stretches[first][at];
            parents[first] = Some(like);
            let each = self.product(rest, parents);
            let below = each.saturating_mul(count);
            if rank < below || at == last {
                let each = each.max(1);
                ranks[first] = Some(start + (rank / each).min(count - 1));
                return self.place(rest, rank % each, parents, ranks);
            }
            rank -= below;
        }
    }

    fn product(&mut self, positions: &[usize], parents: &mut Parents) -> u128 {
        self.groups(positions).iter().map(|group| self.count(group, parents)).fold(1, u128::saturating_mul)
    }

    /// How many configurations a group has, given the values of the parents outside of it.
    fn count(&mut self, group: &[usize], parents: &mut Parents) -> u128 {
        let Some((&first, rest)) = group.split_first() else {
            return 1;
        };
        if rest.is_empty() {
            return if self.is_active(first, parents) { self.domain_size(first) } else { 1 };
        }
        let key = (group.to_vec(), self.outside(group, parents));
        if let Some(count) = self.known.get(&key) {
            return *count;
        }
        if self.is_exhausted() {
            return 1;
        }
        let count = if self.is_active(first, parents) {
            let mut classes = BTreeMap::<u128, u128>::new();
            for stretch in &self.stretches[first] {
                *classes.entry(stretch.like).or_default() += stretch.count;
            }
            let mut sum = 0_u128;
            for (like, members) in classes {
                parents[first] = Some(like);
                sum = sum.saturating_add(members.saturating_mul(self.product(rest, parents)));
            }
            parents[first] = None;
            sum
        } else {
            self.product(rest, parents)
        };
        self.known.insert(key, count);
        count
    }

    /// `positions` as groups that do not depend on each other, each in order, once all else is decided.
    /// The first of a group of several is a parent: what it depends on itself is outside.
    fn groups(&self, positions: &[usize]) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for &position in positions {
            let when = &self.parameters[position].when;
            let depends = |group: &Vec<usize>| when.iter().any(|a| group.contains(&a.parent));
            let (mut joined, others): (Vec<_>, Vec<_>) = groups.into_iter().partition(depends);
            joined.push(vec![position]);
            groups = others;
            let mut group = joined.concat();
            group.sort_unstable();
            groups.push(group);
        }
        groups
    }

    fn outside(&self, group: &[usize], parents: &Parents) -> Vec<Option<u128>> {
        let all = group.iter().flat_map(|position| &self.parameters[*position].when).map(|a| a.parent);
        let mut outside: Vec<usize> = all.filter(|parent| !group.contains(parent)).collect();
        outside.sort_unstable();
        outside.dedup();
        outside.into_iter().map(|parent| parents[parent]).collect()
    }

    fn is_active(&self, position: usize, parents: &Parents) -> bool {
        self.parameters[position].when.iter().all(|a| {
            let domain = &self.parameters[a.parent].domain;
            parents[a.parent].is_some_and(|rank| a.values.contain(domain.nth(rank)))
        })
    }

    fn domain_size(&self, position: usize) -> u128 {
        self.parameters[position].domain.size().unwrap_or(1)
    }
}

fn stretches(parameters: &[Parameter], position: usize) -> Vec<Stretch> {
    let domain = &parameters[position].domain;
    let size = domain.size().unwrap_or(1);
    let of_children: Vec<&Values> =
        parameters.iter().flat_map(|p| &p.when).filter(|a| a.parent == position).map(|a| &a.values).collect();
    if of_children.is_empty() {
        return Vec::new();
    }
    let mut starts = BTreeSet::from([0]);
    for values in &of_children {
        match values {
            Values::In(_) => starts.extend(0..size),
            // A range of values is a range of ranks.
            Values::Between(min, max) => {
                starts.insert(first_rank(domain, size, |value| value >= *min));
                starts.insert(first_rank(domain, size, |value| value > *max));
            }
        }
    }
    starts.remove(&size);
    let ends: Vec<u128> = starts.iter().copied().skip(1).chain([size]).collect();
    let mut first = BTreeMap::<Vec<bool>, u128>::new();
    let stretch = |(start, end): (u128, u128)| {
        let seen = of_children.iter().map(|values| values.contain(domain.nth(start))).collect();
        Stretch { start, count: end - start, like: *first.entry(seen).or_insert(start) }
    };
    starts.iter().copied().zip(ends).map(stretch).collect()
}

/// The rank of the first value for which `holds`, which then holds for all above; `size` if for none.
fn first_rank(domain: &Domain, size: u128, holds: impl Fn(f64) -> bool) -> u128 {
    let (mut below, mut above) = (0, size);
    while below < above {
        let middle = below + (above - below) / 2;
        let value = match domain.nth(middle) {
            Value::Double(x) => x,
            Value::Int(n) => n as f64,
            Value::Choice(position) => position as f64,
        };
        if holds(value) { above = middle } else { below = middle + 1 }
    }
    below
}
