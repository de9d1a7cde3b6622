//! The metrics of a run, wherever they are: what the sidecar and `sweep run` share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use jiff::Timestamp;

use crate::metrics::{Events, FileFollower, Grammar, Noted, Pages, Parser, Report, unread};
use crate::scrape::{self, Scraper};

/// How many bytes of a file's beginning are looked at for why nothing was read.
const BEGINNING: usize = 16 * 1024;

/// Where the metrics of a run are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Lines in a file.
    File(PathBuf),
    /// Lines in a file, behind those that are there now.
    EndOfFile(PathBuf),
    /// Event files in a folder, and in another one those that are not there yet.
    Events {
        /// The folder.
        folder: PathBuf,
        /// The other one.
        fixed: Option<PathBuf>,
    },
    /// A page of metrics.
    Page {
        /// The port on the loopback interface.
        port: u16,
        /// The path of the page.
        path: String,
        /// A file that says how far a reader has got that was started before, and is written for the next one.
        state: Option<PathBuf>,
    },
}

/// Where a report stands among the others of its run. It increases from report to report, and a reader that begins anew
/// gives the same report the same one, or a higher one to the same value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Which content of a file the report is from; of what is no file a part of the offset.
    pub generation: u32,
    /// Where in that content it ends.
    pub offset: u64,
}

/// Reads the metrics of a run.
#[derive(Debug)]
pub struct Intake {
    source: Reader,
    parser: Parser,
    grammar: Arc<Grammar>,
    objective: String,
}

#[derive(Debug)]
enum Reader {
    Lines {
        follower: FileFollower,
        /// Lines that were too long for the follower and are counted already.
        known_too_long: u64,
        /// What the file begins with, while nothing was read of it.
        beginning: String,
        is_read: bool,
    },
    Events {
        events: Events,
        /// The last step, and how many reports there were of it.
        last: Option<(u64, u32)>,
    },
    Page {
        pages: Box<Pages>,
        scraper: Scraper,
        state: Option<PathBuf>,
        /// The offset of the last report.
        last: u64,
        /// Why there was no page at last, while none was read.
        refused: Option<String>,
        /// What was wrong at last, until the next page, or its absence, is looked at.
        problem: Option<String>,
        is_read: bool,
    },
}

impl Intake {
    /// A reader of the metrics at `place`, of which nothing need be there yet: the objective, and that of a fold. A page is fetched by a task of the tokio
    /// runtime in which this is called.
    ///
    /// # Errors
    /// What is in a file now cannot be read.
    pub fn new(place: Place, objectives: &[&str], grammar: &Arc<Grammar>) -> io::Result<Intake> {
        let mut parser =
            Parser::new(objectives.iter().copied(), grammar.clone()).with_folds(objectives.get(1).copied());
        let objective = objectives.first().copied().unwrap_or_default().to_owned();
        let source = match place {
            Place::File(path) => Reader::lines(FileFollower::new(path)),
            Place::EndOfFile(path) => {
                let mut follower = FileFollower::new(path);
                follower.poll()?;
                while follower.more_waiting() {
                    follower.poll()?;
                }
                Reader::lines(follower)
            }
            Place::Events { folder, fixed } => {
                let mut events = Events::new(folder, &parser);
                if let Some(fixed) = fixed {
                    events = events.and(fixed);
                }
                Reader::Events { events, last: None }
            }
            Place::Page { port, path, state } => {
                let known = state.as_ref().and_then(|state| serde_json::from_slice(&fs::read(state).ok()?).ok());
                Reader::Page {
                    pages: Box::new(Pages::of(&*objective, known, &mut parser)),
                    scraper: Scraper::start(port, &path),
                    state,
                    last: 0,
                    refused: None,
                    problem: None,
                    is_read: false,
                }
            }
        };
        Ok(Intake { source, parser, grammar: grammar.clone(), objective })
    }

    /// Reads on, a piece of bounded size: calls `each` with what is reported, and notes all else. `is_last` tells that the
    /// trainer has ended: to read all that is left, call it until [`more_waiting`](Self::more_waiting) is false.
    ///
    /// # Errors
    /// What keeps metrics from being read, for now, for a person. Nothing is lost by it: read again.
    pub fn read(
        &mut self,
        is_last: bool,
        noted: &mut Noted,
        mut each: impl FnMut(Position, Report),
    ) -> Result<(), String> {
        let Intake { source, parser, objective, .. } = self;
        match source {
            Reader::Lines { follower, known_too_long, beginning, is_read } => {
                let lines = if is_last { follower.finish() } else { follower.poll() };
                noted.dropped.too_long += follower.too_long() - *known_too_long;
                *known_too_long = follower.too_long();
                let mut reports = Vec::new();
                for line in lines.map_err(|error| cannot_read("metrics file", &error))? {
                    if !*is_read && beginning.len() < BEGINNING {
                        let text = String::from_utf8_lossy(&line.bytes);
                        beginning.extend(text.chars().take(BEGINNING - beginning.len()).chain(['\n']));
                    }
                    parser.line(&line.bytes, noted, |report| reports.push(report));
                    *is_read |= reports.iter().any(|report| report.values.contains_key(objective));
                    let last = reports.len().saturating_sub(1);
                    for (index, report) in reports.drain(..).enumerate() {
                        // Each has an offset of its own, still inside of the line: an object is longer than a byte.
                        let offset = line.offset.saturating_sub((last - index) as u64);
                        each(Position { generation: line.generation, offset }, report);
                    }
                }
                Ok(())
            }
            Reader::Events { events, last } => {
                let read = events.poll(is_last, parser, noted, |report| {
                    let count = last.filter(|(step, _)| *step == report.step).map_or(0, |(_, count)| count + 1);
                    *last = Some((report.step, count));
                    each(of_step(report.step, count), report);
                });
                read.map_err(|error| cannot_read("event files", &error))
            }
            Reader::Page { pages, scraper, state, last, refused, problem, is_read } => {
                let mut count = 0;
                let mut report = |report: Report| {
                    count += 1;
                    *last = next_offset(*last);
                    each(Position { generation: 1, offset: *last }, report);
                };
                while let Some(page) = scraper.next() {
                    *problem = match page {
                        Ok(page) => {
                            *is_read = true;
                            pages.read(&page, parser, noted, &mut report)
                        }
                        // Before the trainer listens, and once it has ended.
                        Err(scrape::Error::Refused) => {
                            *refused = Some(scrape::Error::Refused.to_string());
                            None
                        }
                        Err(error) => Some(error.to_string()),
                    };
                    if problem.is_some() {
                        refused.clone_from(problem);
                    }
                }
                if is_last {
                    pages.finish(parser, noted, &mut report);
                }
                // Behind the report: one that is given twice does no harm.
                if count > 0
                    && let (Some(state), Some(reached)) = (state, pages.reached())
                {
                    let written = serde_json::to_vec(&reached).map_err(io::Error::from);
                    // Without it a reader that is started anew counts its steps anew; nothing else depends on it.
                    drop(written.and_then(|text| replace(state, &text)));
                }
                problem.clone().map_or(Ok(()), Err)
            }
        }
    }

    /// Whether the last call left something unread, so that the next one should come at once.
    pub fn more_waiting(&self) -> bool {
        match &self.source {
            Reader::Lines { follower, .. } => follower.more_waiting(),
            Reader::Events { events, .. } => events.more_waiting(),
            Reader::Page { .. } => false,
        }
    }

    /// Why nothing was read of the objective, once all was read, as far as that can be told.
    pub fn why_nothing(&self) -> Option<String> {
        match &self.source {
            Reader::Lines { beginning, .. } => {
                unread(&self.objective, beginning, &self.grammar).map(|unread| format!("not read: {unread}"))
            }
            Reader::Events { events, .. } => Some(events.why_nothing(&self.objective)),
            Reader::Page { pages, refused, is_read, .. } => {
                pages.why_nothing().or_else(|| refused.clone().filter(|_| !is_read))
            }
        }
    }
}

impl Reader {
    fn lines(follower: FileFollower) -> Reader {
        Reader::Lines { known_too_long: follower.too_long(), follower, beginning: String::new(), is_read: false }
    }
}

/// The position of the report that comes after `count` others of its step: event files may be several, and offsets in them
/// are in no order, but steps only go up.
fn of_step(step: u64, count: u32) -> Position {
    Position { generation: 1 + (step >> 32) as u32, offset: step << 32 | u64::from(count) }
}

/// The offset of a report of a page, behind `last`: the time, since a reader that was started again knows of no other that
/// goes on.
fn next_offset(last: u64) -> u64 {
    let now = u64::try_from(Timestamp::now().as_microsecond()).unwrap_or(0);
    now.max(last + 1)
}

/// Writes a file anew, as a whole or not at all: whoever is ended in the middle of it leaves the one before.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, bytes)?;
    fs::rename(new, path)
}

fn cannot_read(what: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("cannot read {what}: permission denied; does the trainer run with umask 077?")
        }
        io::ErrorKind::IsADirectory => format!("cannot read {what}: it is a directory"),
        io::ErrorKind::NotADirectory => format!("cannot read {what}: their folder is a file"),
        _ => format!("cannot read {what}: {error}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::metrics::MAX_STEP;

    #[test]
    fn a_file_that_cannot_be_read_is_explained() {
        let cases = [
            (
                io::ErrorKind::PermissionDenied.into(),
                "cannot read metrics file: permission denied; does the trainer run with umask 077?",
            ),
            (io::ErrorKind::IsADirectory.into(), "cannot read metrics file: it is a directory"),
            (io::Error::other("not a regular file"), "cannot read metrics file: not a regular file"),
        ];
        for (error, problem) in cases {
            assert_eq!(cannot_read("metrics file", &error), problem);
        }
    }

    #[test]
    fn positions_of_steps_increase_with_step_and_count_up_to_the_highest_step() {
        let steps = [0, 1, u64::from(u32::MAX), 1 << 32, (1 << 32) + 1, MAX_STEP - 1, MAX_STEP];
        let positions = steps.into_iter().flat_map(|step| [0, 1, u32::MAX].map(|count| of_step(step, count)));
        assert!(positions.collect::<Vec<_>>().is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reached.json");
        for text in [b"a longer one".as_slice(), b"short"] {
            replace(&path, text).unwrap();
            assert_eq!(fs::read(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn offsets_of_pages_increase_whatever_the_clock_does() {
        let first = next_offset(0);
        assert!(next_offset(first) > first);
        assert_eq!(next_offset(u64::MAX / 2), u64::MAX / 2 + 1);
    }
}
