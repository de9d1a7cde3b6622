//! Follows a folder in which a trainer writes event files, as TensorBoard reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::dropped::example;
use super::event::{Event, event};
use super::found::{Found, Step};
use super::noted::Noted;
use super::parse::{Parser, Report};
use super::record::{self, MOST_BYTES, Next};
use super::tag::{Named, Tags};
use super::unread::instead;

/// What the name of an event file holds.
const MARK: &str = "tfevents";

/// How often a folder is looked at for new files; where looking takes long, less often. Known ones are read at every call.
const LOOK: Duration = Duration::from_millis(250);

/// How many times as long as it takes to look nobody looks again.
const REST: u32 = 20;

/// How deep folders are looked into, how many of them wait to be looked into, how many entries are looked at, and how many event
/// files are read.
const MAX_DEPTH: usize = 12;
const MAX_FOLDERS: usize = 2_000;
const MAX_ENTRIES: usize = 20_000;
const MAX_FILES: usize = 1_000;

/// Reads the scalars of the event files that a trainer writes into a folder.
#[derive(Debug)]
pub struct Events {
    follower: EventFollower,
    tags: Tags,
    /// The last value of an objective that was refused.
    refused: Option<String>,
}

impl Events {
    /// A reader of the folder at `path`, which need not exist yet. `parser` is the one that it is read with.
    pub fn new(path: impl Into<PathBuf>, parser: &Parser) -> Events {
        let vocabulary = parser.vocabulary();
        let wanted = vocabulary.objectives.keys().chain(vocabulary.additional).cloned();
        Events { follower: EventFollower::new(path), tags: Tags::new(wanted), refused: None }
    }

    /// Reads another folder as well, but for the files that are in it now.
    #[must_use]
    pub fn and(mut self, path: impl Into<PathBuf>) -> Events {
        self.follower.add(path);
        self
    }

    /// Reads what was written since the last call, up to some 512 KiB: what is left waits in the files. Calls `each` with
    /// what is reported, and notes all else. `is_last` tells that the trainer has ended.
    ///
    /// # Errors
    /// A folder or a file cannot be read. What can be is, and nothing is lost by it: poll again.
    pub fn poll(
        &mut self,
        is_last: bool,
        parser: &mut Parser,
        noted: &mut Noted,
        mut each: impl FnMut(Report),
    ) -> io::Result<()> {
        let Events { follower, tags, refused } = self;
        follower.poll(is_last, |followed| match followed {
            Followed::Event { folder, event } => {
                let missed = read(folder, event, tags, parser, noted, &mut each);
                *refused = missed.or_else(|| refused.take());
            }
            Followed::Damaged { file } => noted.dropped.count(|dropped| &mut dropped.damaged, 1, file),
            Followed::Broken { file } => {
                noted.dropped.count(
                    |dropped| &mut dropped.damaged,
                    1,
                    &format!("{file}, of which nothing more is read"),
                );
            }
        })
    }

    /// Whether the last call left something unread, so that the next one should come at once.
    pub fn more_waiting(&self) -> bool {
        self.follower.more_waiting()
    }

    /// Why nothing was read of a metric, once all was: what there is instead.
    pub fn why_nothing(&self, metric: &str) -> String {
        if let Some(refused) = &self.refused {
            return format!("the step of every value of {metric} is negative or above 2^53, such as \"{refused}\"");
        }
        if let Some(instead) = instead(metric, "tags", self.tags.seen()) {
            return instead;
        }
        match (self.follower.files.len(), self.follower.long) {
            (0, _) => "there are no event files".to_owned(),
            (_, 0) => "there is no scalar in the event files".to_owned(),
            (count, long) => format!(
                "there is no scalar in the {count} event files; {long} records of more than 256 KiB were skipped"
            ),
        }
    }
}

/// Reads the scalars of an event. Returns the value of an objective that was refused.
fn read(
    folder: &str,
    event: Event,
    tags: &mut Tags,
    parser: &mut Parser,
    noted: &mut Noted,
    each: &mut impl FnMut(Report),
) -> Option<String> {
    let step = u64::try_from(event.step)
        .map_or(Step::Impossible, |step| Step::from_text(&step.to_string()).unwrap_or_default());
    let mut found = Found { step, step_word: "step".to_owned(), ..Found::default() };
    let told = |tag: &str, value: f64| {
        let at = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        format!("{at}{tag}: {value} at step {}", event.step)
    };
    let mut objective = None;
    for (tag, value) in &event.scalars {
        let name = match tags.name(folder, tag) {
            Named::Metric(name) => name,
            Named::Elsewhere => {
                noted.dropped.count(|dropped| &mut dropped.other_folder, 1, &told(tag, *value));
                continue;
            }
        };
        if parser.vocabulary().is_objective(&name) {
            objective = Some(told(tag, *value));
            found.values.insert(name, *value);
        } else if value.is_finite() && parser.vocabulary().is_other(&name) {
            found.others.push((name, *value));
        }
    }
    match parser.report(found, objective.as_deref().unwrap_or_default(), noted) {
        Some(report) => each(report),
        None => return objective.map(|objective| example(&objective)),
    }
    None
}

/// What a followed folder held next.
#[derive(Debug, PartialEq)]
pub(super) enum Followed<'a> {
    /// An event of a file in this folder, which is empty for the followed one itself.
    Event { folder: &'a str, event: Event },
    /// A record of the file of this name is damaged.
    Damaged { file: &'a str },
    /// A record of the file of this name is damaged so that none behind it can be found: nothing more is read of it.
    Broken { file: &'a str },
}

/// Follows the event files of folders, and of all folders in them: files that appear late, grow, or are written anew. A record
/// that is not there as a whole is waited for.
///
/// Files are read in the order in which they were begun, as their names tell, each to its end for now before the next one:
/// so reading them all over again gives what there was in the same order.
#[derive(Debug)]
pub(super) struct EventFollower {
    folders: Vec<Folder>,
    files: BTreeMap<Key, EventFile>,
    /// When to look for new files again.
    next_look: Option<Instant>,
    /// What the last look failed with, until the next one.
    look_problem: Option<(io::ErrorKind, String)>,
    /// Files hold what was not read yet.
    has_backlog: bool,
    /// The file that the next call begins with, where the last one did not get to all of them.
    resume: Option<Key>,
    /// The last call told that the trainer has ended.
    has_ended: bool,
    more_waiting: bool,
    /// Records that were skipped because they are longer than [`MAX_RECORD`](record::MAX_RECORD).
    long: u64,
}

/// A folder that is followed, and files in it that are not.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    ignored: BTreeSet<PathBuf>,
}

/// The time in a file's name, in seconds, and its path.
type Key = (u64, PathBuf);

#[derive(Debug, Default)]
struct EventFile {
    /// The folder, from the followed one on.
    folder: String,
    /// Where the next record begins.
    offset: u64,
    /// How long the file was when it was last read.
    length: u64,
    /// Which file it was.
    identity: Option<(u64, u64)>,
    is_broken: bool,
}

impl EventFollower {
    /// A follower of the folder at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> EventFollower {
        let folder = Folder { path: path.into(), ignored: BTreeSet::new() };
        EventFollower {
            folders: vec![folder],
            files: BTreeMap::new(),
            next_look: None,
            look_problem: None,
            has_backlog: false,
            resume: None,
            has_ended: false,
            more_waiting: false,
            long: 0,
        }
    }

    /// Follows another folder as well, but for the files that are in it now.
    pub fn add(&mut self, path: impl Into<PathBuf>) {
        let path = path.into();
        // What cannot be looked at now is told once it is followed.
        let files = files(&path, &BTreeSet::new(), MAX_ENTRIES).0;
        self.folders.push(Folder { path, ignored: files.into_iter().map(|(path, _)| path).collect() });
    }

    /// Calls `each` with what was written since the last call, up to some 512 KiB: what is left waits in the files. With
    /// `is_last` there is more to come until a look for new files was followed by reading nothing.
    ///
    /// # Errors
    /// A folder or a file cannot be read. What can be is, and nothing is lost by it: poll again. That a folder cannot be
    /// looked at is said again until the next look.
    pub fn poll(&mut self, is_last: bool, mut each: impl FnMut(Followed)) -> io::Result<()> {
        // The last file may have come while a backlog was read: an end is looked at first, and once again behind it.
        let at_the_end = is_last && (!self.has_ended || !self.has_backlog);
        let looks = at_the_end || self.next_look.is_none_or(|next| Instant::now() >= next);
        if looks {
            self.look_problem = self.look().err().map(|error| (error.kind(), error.to_string()));
        }
        let mut result = self.look_problem.clone().map_or(Ok(()), |(kind, message)| Err(io::Error::new(kind, message)));
        let resumed = self.resume.take();
        let (mut gone, mut taken) = (Vec::new(), 0);
        let from = resumed.as_ref().map_or(Bound::Unbounded, Bound::Included);
        for (key, file) in self.files.range_mut((from, Bound::Unbounded)) {
            // A file is read only where the longest record would be read whole.
            if taken >= MOST_BYTES {
                self.resume = Some(key.clone());
                break;
            }
            match file.read(&key.1, &mut each) {
                Ok(read) => {
                    self.long += read.long;
                    taken += read.taken;
                    if !read.is_at_end {
                        self.resume = Some(key.clone());
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => gone.push(key.clone()),
                Err(error) => result = result.and(Err(error)),
            }
        }
        for key in gone {
            self.files.remove(&key);
        }
        // The files before the one that it was resumed at have their turn then.
        self.has_backlog = self.resume.is_some() || resumed.is_some();
        self.has_ended = is_last;
        self.more_waiting = self.has_backlog || is_last && !(looks && taken == 0);
        result
    }

    /// Whether the last call left something unread, so that the next one should come at once.
    pub fn more_waiting(&self) -> bool {
        self.more_waiting
    }

    /// Looks for new files.
    fn look(&mut self) -> io::Result<()> {
        let (began, mut result) = (Instant::now(), Ok(()));
        for Folder { path, ignored } in &self.folders {
            let (found, looked) = files(path, ignored, MAX_FILES);
            result = result.and(looked);
            for (path, folder) in found {
                if self.files.len() < MAX_FILES || self.files.contains_key(&(begun(&path), path.clone())) {
                    let file = || EventFile { folder, ..EventFile::default() };
                    self.files.entry((begun(&path), path)).or_insert_with(file);
                } else {
                    result = result.and(Err(too_many_files(MAX_FILES)));
                }
            }
        }
        self.next_look = Some(Instant::now() + LOOK.max(began.elapsed() * REST));
        result
    }
}

/// When a file was begun, as its name tells: `events.out.tfevents.1700000000.host.17.0`.
fn begun(path: &Path) -> u64 {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let behind = name.split_once(MARK).map_or("", |(_, behind)| behind);
    behind.split('.').find_map(|part| part.parse().ok()).unwrap_or(0)
}

fn too_many_files(most: usize) -> io::Error {
    io::Error::other(format!("there are more than {most} event files"))
}

/// The event files in `root` and in the folders in it, up to `most`, each with its folder; and what could not be looked at.
/// Links are not followed: they may lead anywhere.
fn files(root: &Path, ignored: &BTreeSet<PathBuf>, most: usize) -> (Vec<(PathBuf, String)>, io::Result<()>) {
    let (mut files, mut result, mut entries) = (Vec::new(), Ok(()), 0);
    let mut folders = vec![(root.to_owned(), String::new(), 0)];
    while let Some((path, folder, depth)) = folders.pop() {
        let listed = match fs::read_dir(&path) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                result = result.and(Err(error));
                continue;
            }
        };
        for entry in listed.flatten() {
            entries += 1;
            if entries > MAX_ENTRIES {
                return (files, Err(io::Error::other(format!("there are more than {MAX_ENTRIES} files and folders"))));
            }
            if folders.len() > MAX_FOLDERS {
                return (files, Err(io::Error::other(format!("there are more than {MAX_FOLDERS} folders"))));
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < MAX_DEPTH => {
                    let below = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                    folders.push((entry.path(), below, depth + 1));
                }
                Ok(kind) if kind.is_file() && name.contains(MARK) && !ignored.contains(&entry.path()) => {
                    if files.len() == most {
                        return (files, Err(too_many_files(most)));
                    }
                    files.push((entry.path(), folder.clone()));
                }
                _ => {}
            }
        }
    }
    (files, result)
}

/// What became of reading a file on.
struct Progress {
    is_at_end: bool,
    /// How many bytes were taken from it.
    taken: u64,
    long: u64,
}

impl EventFile {
    fn read(&mut self, path: &Path, each: &mut impl FnMut(Followed)) -> io::Result<Progress> {
        let mut read = Progress { is_at_end: true, taken: 0, long: 0 };
        let metadata = fs::symlink_metadata(path)?;
        let identity = |metadata: &Metadata| Some((metadata.dev(), metadata.ino()));
        if self.identity != identity(&metadata) || metadata.len() < self.length {
            let folder = std::mem::take(&mut self.folder);
            *self = EventFile { folder, identity: identity(&metadata), ..EventFile::default() };
        }
        // Nothing has come, or what is skipped is not all there.
        if !metadata.is_file() || self.is_broken || metadata.len() == self.length || metadata.len() <= self.offset {
            self.length = metadata.len();
            return Ok(read);
        }
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        file.take(MOST_BYTES).read_to_end(&mut bytes)?;
        read.taken = bytes.len() as u64;
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let mut rest = bytes.as_slice();
        let mut is_part = false;
        while !rest.is_empty() {
            let (size, followed) = match record::next(rest) {
                Next::Record { data, size } => match event(data) {
                    Some(event) => (size, Some(Followed::Event { folder: &self.folder, event })),
                    None => (size, Some(Followed::Damaged { file: &name })),
                },
                Next::Damaged { size } => (size, Some(Followed::Damaged { file: &name })),
                Next::Long { size } => {
                    read.long += 1;
                    (size, None)
                }
                Next::Part => {
                    is_part = true;
                    break;
                }
                Next::Broken => {
                    self.is_broken = true;
                    each(Followed::Broken { file: &name });
                    return Ok(read);
                }
            };
            self.offset = self.offset.saturating_add(size);
            rest = usize::try_from(size).ok().and_then(|size| rest.get(size..)).unwrap_or_default();
            followed.into_iter().for_each(&mut *each);
        }
        // As many bytes as were asked for hold a whole record: what is a part of them is one more.
        let is_full = bytes.len() as u64 == MOST_BYTES;
        read.is_at_end = !is_full && (is_part || self.offset >= metadata.len());
        self.length = if read.is_at_end { metadata.len() } else { 0 };
        Ok(read)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::sync::Arc;

    use super::super::event::message;
    use super::super::pattern::Grammar;
    use super::super::record::{MAX_RECORD, record};
    use super::*;
    use proptest::prelude::*;

    /// A folder, and what was read of it.
    struct Fixture {
        dir: tempfile::TempDir,
        events: Events,
        parser: Parser,
        noted: Noted,
        reports: Vec<(u64, f64)>,
    }

    const FIRST: &str = "events.out.tfevents.1700000000.host.1.0";
    const SECOND: &str = "events.out.tfevents.1700000009.host.1.0";

    impl Fixture {
        fn new(objective: &str) -> Fixture {
            let dir = tempfile::tempdir().unwrap();
            let parser = Parser::new([objective], Arc::new(Grammar::default()));
            let events = Events::new(dir.path().join("logs"), &parser);
            Fixture { dir, events, parser, noted: Noted::default(), reports: Vec::new() }
        }

        fn path(&self, file: &str) -> PathBuf {
            self.dir.path().join("logs").join(file)
        }

        fn append(&self, file: &str, bytes: &[u8]) {
            let path = self.path(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(bytes).unwrap();
        }

        fn scalar(&self, file: &str, step: i64, tag: &str, value: f32) {
            self.append(file, &record(&message(step, tag, value)));
        }

        /// Reads all that is there: (step, value) of every report.
        fn read(&mut self) -> Vec<(u64, f64)> {
            loop {
                let Fixture { events, parser, noted, reports, .. } = self;
                let objective = parser.vocabulary().objectives.keys().next().unwrap().clone();
                events
                    .poll(true, parser, noted, |report| reports.push((report.step, report.values[&objective])))
                    .unwrap();
                if !self.events.more_waiting() {
                    return std::mem::take(&mut self.reports);
                }
            }
        }
    }

    #[test]
    fn a_folder_may_appear_late_and_files_may_appear_anywhere_in_it() {
        let mut f = Fixture::new("loss");
        assert_eq!(f.read(), []);
        f.scalar(FIRST, 1, "loss", 0.5);
        assert_eq!(f.read(), [(1, 0.5)]);
        f.scalar(SECOND, 2, "loss", 0.25);
        assert_eq!(f.read(), [(2, 0.25)]);
        let mut f = Fixture::new("val/loss");
        f.scalar(&format!("runs/Jan01/val/{FIRST}"), 1, "loss", 0.5);
        f.append("runs/notes.txt", b"no event file");
        assert_eq!(f.read(), [(1, 0.5)]);
        assert_eq!(f.noted, Noted::default());
    }

    #[test]
    fn a_part_of_a_record_is_waited_for() {
        let mut f = Fixture::new("loss");
        let bytes = record(&message(1, "loss", 0.5));
        for byte in &bytes {
            assert_eq!(f.read(), []);
            f.append(FIRST, &[*byte]);
        }
        assert_eq!(f.read(), [(1, 0.5)]);
        f.append(FIRST, &bytes[..9]);
        assert_eq!(f.read(), []);
        assert!(f.noted.dropped.is_zero(), "a trainer that was killed leaves such a thing");
    }

    #[test]
    fn of_several_files_the_one_that_was_begun_first_is_read_to_its_end_before_the_next() {
        let mut f = Fixture::new("loss");
        for step in 0..20_000 {
            f.scalar(if step < 12_000 { FIRST } else { SECOND }, step, "loss", step as f32);
        }
        assert_eq!(f.read(), (0..20_000).map(|step| (step, step as f64)).collect::<Vec<_>>());
        assert!(f.noted.dropped.is_zero());
    }

    #[test]
    fn a_file_that_came_during_a_backlog_is_read_before_the_end() {
        let mut f = Fixture::new("loss");
        let backlog: Vec<u8> = (0..20_000).flat_map(|step| record(&message(step, "loss", 0.5))).collect();
        f.append(FIRST, &backlog);
        f.events.poll(false, &mut f.parser, &mut f.noted, |_| ()).unwrap();
        assert!(f.events.more_waiting());
        f.scalar(SECOND, 20_000, "loss", 0.25);
        assert_eq!(f.read().last(), Some(&(20_000, 0.25)));
    }

    #[test]
    fn a_call_reads_a_bounded_part_of_however_many_files_and_the_next_one_goes_on() {
        let mut f = Fixture::new("loss");
        let piece: Vec<u8> = (0..100).flat_map(|_| record(&message(1, "loss", 0.5))).collect();
        let count = 5 * MOST_BYTES as usize / piece.len();
        for file in 0..count {
            f.append(&format!("events.out.tfevents.{}.host", 1_700_000_000 + file), &piece);
        }
        let (mut calls, mut all) = (0, 0);
        while calls == 0 || f.events.more_waiting() {
            let mut reports = 0;
            f.events.poll(false, &mut f.parser, &mut f.noted, |_| reports += 1).unwrap();
            assert!(reports * piece.len() / 100 <= 2 * MOST_BYTES as usize);
            (calls, all) = (calls + 1, all + reports);
        }
        assert_eq!(all, count * 100);
        assert!(calls > 4, "{calls}");
    }

    #[test]
    fn what_a_look_failed_with_is_said_until_the_next_one() {
        let mut f = Fixture::new("loss");
        for file in 0..=MAX_FILES {
            f.append(&format!("events.out.tfevents.{file}.host"), b"");
        }
        let said = |f: &mut Fixture| f.events.poll(false, &mut f.parser, &mut f.noted, |_| ()).unwrap_err().to_string();
        assert_eq!(said(&mut f), "there are more than 1000 event files");
        assert_eq!(said(&mut f), "there are more than 1000 event files");
    }

    #[test]
    fn a_file_that_is_written_anew_is_read_anew_and_steps_that_go_back_are_dropped() {
        let mut f = Fixture::new("loss");
        f.scalar(FIRST, 1, "loss", 0.5);
        f.scalar(FIRST, 2, "loss", 0.4);
        assert_eq!(f.read(), [(1, 0.5), (2, 0.4)]);
        fs::write(f.path(FIRST), record(&message(2, "loss", 0.3))).unwrap();
        assert_eq!(f.read(), [(2, 0.3)]);
        fs::remove_file(f.path(FIRST)).unwrap();
        assert_eq!(f.read(), []);
        f.scalar(FIRST, 1, "loss", 0.1);
        f.scalar(FIRST, 3, "loss", 0.2);
        assert_eq!(f.read(), [(3, 0.2)]);
        let said = "1 value at a lower step than the one before, such as \"loss: 0.1 at step 1\"";
        assert_eq!(f.noted.dropped.to_string(), said);
    }

    #[test]
    fn what_is_damaged_is_told_and_what_can_be_found_behind_it_is_read() {
        let mut f = Fixture::new("loss");
        let mut damaged = record(&message(2, "loss", 0.4));
        *damaged.last_mut().unwrap() ^= 1;
        f.scalar(FIRST, 1, "loss", 0.5);
        f.append(FIRST, &damaged);
        f.append(FIRST, &record(b"\xff no message"));
        f.scalar(FIRST, 3, "loss", 0.3);
        f.append(FIRST, &[0; 64]);
        f.scalar(FIRST, 4, "loss", 0.2);
        f.scalar(SECOND, 5, "loss", 0.1);
        assert_eq!(f.read(), [(1, 0.5), (3, 0.3), (5, 0.1)]);
        f.scalar(FIRST, 6, "loss", 0.0);
        assert_eq!(f.read(), []);
        let said = format!("3 damaged records of event files, such as \"{FIRST}\"");
        assert_eq!(f.noted.dropped.to_string(), said);
    }

    #[test]
    fn a_record_that_is_too_long_is_skipped_as_it_comes() {
        let mut f = Fixture::new("loss");
        let long = record(&vec![0; MAX_RECORD as usize + 1]);
        f.append(FIRST, &long[..1000]);
        assert_eq!(f.read(), []);
        f.append(FIRST, &long[1000..]);
        f.scalar(FIRST, 1, "loss", 0.5);
        f.append(FIRST, &long);
        f.append(FIRST, &long);
        f.scalar(FIRST, 2, "loss", 0.4);
        assert_eq!(f.read(), [(1, 0.5), (2, 0.4)]);
        assert!(f.noted.dropped.is_zero(), "images are nothing that is missed");
    }

    #[test]
    fn steps_and_values_that_cannot_be_taken_are_told() {
        let mut f = Fixture::new("loss");
        f.scalar(FIRST, -1, "loss", 0.5);
        f.scalar(FIRST, 1, "loss", f32::NAN);
        let read = f.read();
        assert!(read.len() == 1 && read[0].1.is_nan(), "{read:?}");
        let said = "1 non-finite value, 1 line with an impossible step, such as \"loss: 0.5 at step -1\"";
        assert_eq!(f.noted.dropped.to_string(), said);
    }

    #[test]
    fn another_folder_is_read_but_for_what_was_there_before() {
        let mut f = Fixture::new("loss");
        let shared = f.dir.path().join("shared");
        fs::create_dir_all(&shared).unwrap();
        fs::write(shared.join(FIRST), record(&message(1, "loss", 0.9))).unwrap();
        f.events = Events::new(f.dir.path().join("logs"), &f.parser).and(&shared);
        assert_eq!(f.read(), []);
        fs::write(shared.join(SECOND), record(&message(1, "loss", 0.5))).unwrap();
        assert_eq!(f.read(), [(1, 0.5)]);
        f.scalar(FIRST, 2, "loss", 0.4);
        assert_eq!(f.read(), [(2, 0.4)]);
    }

    #[test]
    fn links_are_not_followed() {
        let mut f = Fixture::new("loss");
        let elsewhere = f.dir.path().join("elsewhere");
        fs::create_dir_all(&elsewhere).unwrap();
        fs::write(elsewhere.join(FIRST), record(&message(1, "loss", 0.9))).unwrap();
        f.append("x", b"");
        std::os::unix::fs::symlink(&elsewhere, f.path("folder")).unwrap();
        std::os::unix::fs::symlink(elsewhere.join(FIRST), f.path(SECOND)).unwrap();
        std::os::unix::fs::symlink(f.path("."), f.path("itself")).unwrap();
        assert_eq!(f.read(), []);
    }

    #[test]
    fn where_nothing_was_read_what_there_is_instead_is_told() {
        let mut f = Fixture::new("accuracy");
        assert_eq!(f.events.why_nothing("accuracy"), "there are no event files");
        f.append(FIRST, &record(b""));
        f.read();
        assert_eq!(f.events.why_nothing("accuracy"), "there is no scalar in the event files");
        f.scalar(FIRST, 1, "loss", 0.5);
        f.scalar(FIRST, 1, "val/Accuracy", 0.5);
        f.read();
        let said = "there are the tags val/Accuracy, loss; did you mean val/Accuracy?";
        assert_eq!(f.events.why_nothing("val_accuracy"), said);
        assert_eq!(f.events.why_nothing("reward"), "there are the tags loss, val/Accuracy");
    }

    #[test]
    fn where_no_step_could_be_taken_that_is_told_and_not_that_the_tag_is_there() {
        let mut f = Fixture::new("loss");
        f.scalar(FIRST, -1, "loss", 0.5);
        assert_eq!(f.read(), []);
        let said = "the step of every value of loss is negative or above 2^53, such as \"loss: 0.5 at step -1\"";
        assert_eq!(f.events.why_nothing("loss"), said);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_pieces_of_a_file_give_the_same_reports(cuts in prop::collection::vec(0usize..60, 0..40)) {
            let mut f = Fixture::new("loss");
            let bytes: Vec<u8> = (1..20).flat_map(|step| record(&message(step, "loss", step as f32))).collect();
            let (mut rest, mut reports) = (bytes.as_slice(), Vec::new());
            for cut in cuts {
                let (piece, behind) = rest.split_at(cut.min(rest.len()));
                f.append(FIRST, piece);
                reports.extend(f.read());
                rest = behind;
            }
            f.append(FIRST, rest);
            reports.extend(f.read());
            prop_assert_eq!(reports, (1..20).map(|step| (step, step as f64)).collect::<Vec<_>>());
            prop_assert!(f.noted.dropped.is_zero());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..100, byte in any::<u8>()) {
            let mut f = Fixture::new("loss");
            f.append(SECOND, &bytes);
            let mut damaged = record(&message(1, "loss", 0.5)).repeat(2);
            let at = at % damaged.len();
            damaged[at] = byte;
            f.append(FIRST, &damaged);
            f.read();
        }
    }
}
