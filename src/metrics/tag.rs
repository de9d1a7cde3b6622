//! What tags in folders are called: an objective names a tag with as many of the folders before it as are needed.

use std::collections::{BTreeMap, BTreeSet};

/// How many tags and folders are told apart, and how long one may be, in bytes: what a trainer writes is bounded here.
const MAX_TAGS: usize = 1024;
const LONGEST: usize = 1024;

/// The tags of a run, and what each is called.
#[derive(Clone, Debug)]
pub(super) struct Tags {
    /// The metrics that are asked for.
    wanted: Vec<String>,
    /// The folder and the tag of each that was found.
    found: BTreeMap<String, (String, String)>,
    /// The first folder that each tag was seen in.
    first: BTreeMap<String, String>,
    /// Every folder and tag, as it is written.
    seen: BTreeSet<String>,
}

/// What a tag in a folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// The metric of this name.
    Metric(String),
    /// One that has the name of a metric that was asked for, in another folder than that metric.
    Elsewhere,
}

impl Tags {
    pub fn new(wanted: impl IntoIterator<Item = String>) -> Tags {
        Tags {
            wanted: wanted.into_iter().collect(),
            found: BTreeMap::new(),
            first: BTreeMap::new(),
            seen: BTreeSet::new(),
        }
    }

    /// What `tag` of the files in `folder` is. A metric that is asked for is `tag`, or `folder/tag` with any number of the last
    /// folders; where several are, the first one that came stands, and one that is named in full goes before.
    pub fn name(&mut self, folder: &str, tag: &str) -> Named {
        let full = joined(folder, tag);
        let is_short = full.len() <= LONGEST;
        if is_short && self.seen.len() < MAX_TAGS && !self.seen.contains(&full) {
            self.seen.insert(full.clone());
        }
        if let Some(wanted) = self.wanted.iter().find(|wanted| names(wanted, folder, tag)) {
            let here = (folder.to_owned(), tag.to_owned());
            if *wanted == full {
                self.found.insert(wanted.clone(), here);
                return Named::Metric(full);
            }
            let found = self.found.entry(wanted.clone()).or_insert_with(|| here.clone());
            if *found == here {
                return Named::Metric(wanted.clone());
            }
            return Named::Elsewhere;
        }
        if is_short && self.first.len() < MAX_TAGS && !self.first.contains_key(tag) {
            self.first.insert(tag.to_owned(), folder.to_owned());
        }
        let is_first = self.first.get(tag).is_none_or(|first| first == folder);
        let last = folder.rsplit('/').next().unwrap_or_default();
        Named::Metric(if is_first { tag.to_owned() } else { joined(last, tag) })
    }

    /// Every tag that was seen, with its folder.
    pub fn seen(&self) -> &BTreeSet<String> {
        &self.seen
    }
}

fn joined(folder: &str, tag: &str) -> String {
    if folder.is_empty() { tag.to_owned() } else { format!("{folder}/{tag}") }
}

/// Whether `wanted` is the tag, with none or some of the last folders before it.
fn names(wanted: &str, folder: &str, tag: &str) -> bool {
    let Some(before) = wanted.strip_suffix(tag) else { return false };
    let Some(folders) = before.strip_suffix('/') else { return before.is_empty() };
    folder == folders || folder.strip_suffix(folders).is_some_and(|rest| rest.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &str) -> Named {
        Named::Metric(name.to_owned())
    }

    #[test]
    fn an_objective_names_a_tag_with_some_of_the_folders_before_it() {
        assert!(names("loss", "", "loss") && names("loss", "runs/1", "loss"));
        assert!(names("val/loss", "", "val/loss") && names("val/loss", "runs/1", "val/loss"));
        assert!(names("validation/loss", "runs/validation", "loss") && names("validation/loss", "validation", "loss"));
        assert!(!names("loss", "", "val/loss") && !names("loss", "", "val_loss") && !names("val_loss", "", "loss"));
        assert!(!names("validation/loss", "cross_validation", "loss") && !names("validation/loss", "", "loss"));
        assert!(!names("validation/loss", "validation/1", "loss"));
    }

    #[test]
    fn of_one_tag_in_several_folders_the_first_one_that_came_is_the_objective() {
        let mut tags = Tags::new(["loss".to_owned()]);
        assert_eq!(tags.name("train", "loss"), metric("loss"));
        assert_eq!(tags.name("validation", "loss"), Named::Elsewhere);
        assert_eq!(tags.name("train", "loss"), metric("loss"));
        assert_eq!(tags.name("", "loss"), metric("loss"), "named in full");
        assert_eq!(tags.name("train", "loss"), Named::Elsewhere);
        assert_eq!(tags.seen().iter().collect::<Vec<_>>(), ["loss", "train/loss", "validation/loss"]);
    }

    #[test]
    fn an_objective_with_a_folder_is_told_from_its_namesakes() {
        let mut tags = Tags::new(["validation/loss".to_owned(), "lr".to_owned()]);
        assert_eq!(tags.name("a/train", "loss"), metric("loss"));
        assert_eq!(tags.name("a/validation", "loss"), metric("validation/loss"));
        assert_eq!(tags.name("b/validation", "loss"), Named::Elsewhere);
        assert_eq!(tags.name("a/test", "loss"), metric("test/loss"));
        assert_eq!(tags.name("a/train", "lr"), metric("lr"));
        assert_eq!(tags.name("a/validation", "lr"), Named::Elsewhere);
    }

    #[test]
    fn tags_without_end_cost_no_memory_without_end() {
        let mut tags = Tags::new(["loss".to_owned()]);
        for i in 0..2 * MAX_TAGS {
            assert_eq!(tags.name("", &i.to_string()), metric(&i.to_string()));
        }
        assert_eq!((tags.seen.len(), tags.first.len()), (MAX_TAGS, MAX_TAGS));
        let mut tags = Tags::new(["loss".to_owned()]);
        let long = "x".repeat(2 * LONGEST);
        assert_eq!(tags.name("", &long), metric(&long));
        assert_eq!((tags.seen.len(), tags.first.len()), (0, 0));
        assert_eq!(tags.name("", "loss"), metric("loss"));
    }
}
