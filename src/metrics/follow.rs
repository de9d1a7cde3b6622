//! Follows a file that a trainer appends to.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::lines::LineSplitter;

/// The most that one [`FileFollower::poll`] reads, in bytes. As lines of one byte it still takes less than 3 MiB.
const MAX_READ: usize = 64 * 1024;

/// A line of a followed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedLine {
    /// The line without what ends it.
    pub bytes: Vec<u8>,
    /// Which content of the file it is from: 1 at first, one more each time the file is truncated or replaced.
    pub generation: u32,
    /// Where it ends in that content, in bytes. (generation, offset) increases from line to line.
    pub offset: u64,
}

/// Follows a file that may appear late, grow, be truncated or be replaced; what is appended is never skipped.
///
/// A file that was written anew and has become at least as long as what had been read counts as appended to.
#[derive(Debug)]
pub struct FileFollower {
    path: PathBuf,
    content: Option<Content>,
    generations: u32,
    earlier_too_long: u64,
    more_waiting: bool,
}

/// One content of the file, from its beginning to its truncation or replacement.
#[derive(Debug)]
struct Content {
    file: File,
    generation: u32,
    lines: LineSplitter,
}

impl FileFollower {
    /// A follower of the file at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> FileFollower {
        FileFollower { path: path.into(), content: None, generations: 0, earlier_too_long: 0, more_waiting: false }
    }

    /// The lines that ended since the last call, in at most 64 KiB: what is left waits in the file, so that a
    /// fast writer costs no memory. A file that does not exist has no lines.
    ///
    /// # Errors
    /// The file cannot be read, or is none, such as a directory. Nothing is lost by it: poll again.
    pub fn poll(&mut self) -> io::Result<Vec<FollowedLine>> {
        self.read(false)
    }

    /// As [`poll`](Self::poll), for a writer that has ended: once nothing more is waiting, a last line that
    /// nothing ended is a line too. To drain the file, call it until [`more_waiting`](Self::more_waiting) is false.
    ///
    /// # Errors
    /// As those of [`poll`](Self::poll).
    pub fn finish(&mut self) -> io::Result<Vec<FollowedLine>> {
        self.read(true)
    }

    /// Whether the last call left something unread, so that the next one should come at once.
    pub fn more_waiting(&self) -> bool {
        self.more_waiting
    }

    /// How many lines were dropped because they are longer than [`MAX_LINE`](super::MAX_LINE).
    pub fn too_long(&self) -> u64 {
        self.earlier_too_long + self.content.as_ref().map_or(0, |content| content.lines.too_long())
    }

    fn read(&mut self, last: bool) -> io::Result<Vec<FollowedLine>> {
        self.more_waiting = false;
        // Looked at before reading: so what a writer appended before it replaced the file is still read.
        let at_path = self.at_path()?;
        if self.content.is_none() {
            if at_path.is_none() {
                return Ok(Vec::new());
            }
            self.content = Some(self.open()?);
        }
        let Some(content) = &mut self.content else { return Ok(Vec::new()) };
        let mut lines = Vec::new();
        let metadata = content.file.metadata()?;
        let truncated = metadata.len() < content.lines.offset();
        let at_end = truncated || content.read(&mut lines)?;
        let replaced =
            at_path.is_some_and(|at_path| (at_path.dev(), at_path.ino()) != (metadata.dev(), metadata.ino()));
        if at_end && (truncated || replaced || last) {
            content.finish(&mut lines);
        }
        if at_end && (truncated || replaced) {
            self.earlier_too_long = self.too_long();
            self.content = None;
        }
        self.more_waiting = !at_end || truncated || replaced;
        Ok(lines)
    }

    /// The regular file at the path. Not opened unless it is one: opening a named pipe would block.
    fn at_path(&self) -> io::Result<Option<Metadata>> {
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata)),
            Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open(&mut self) -> io::Result<Content> {
        let file = File::open(&self.path)?;
        self.generations = self.generations.saturating_add(1);
        Ok(Content { file, generation: self.generations, lines: LineSplitter::new() })
    }
}

impl Content {
    /// Reads on, and returns whether this is the end of the file for now.
    fn read(&mut self, lines: &mut Vec<FollowedLine>) -> io::Result<bool> {
        self.file.seek(SeekFrom::Start(self.lines.offset()))?;
        let mut bytes = Vec::new();
        let length = self.file.by_ref().take(MAX_READ as u64).read_to_end(&mut bytes)?;
        let generation = self.generation;
        self.lines
            .push(&bytes, |line| lines.push(FollowedLine { bytes: line.bytes.to_vec(), generation, offset: line.end }));
        Ok(length < MAX_READ)
    }

    fn finish(&mut self, lines: &mut Vec<FollowedLine>) {
        let generation = self.generation;
        self.lines.finish(|line| lines.push(FollowedLine { bytes: line.bytes.to_vec(), generation, offset: line.end }));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::path::Path;

    struct Fixture {
        dir: tempfile::TempDir,
        follower: FileFollower,
    }

    impl Fixture {
        fn new() -> Fixture {
            let dir = tempfile::tempdir().unwrap();
            let follower = FileFollower::new(dir.path().join("metrics"));
            Fixture { dir, follower }
        }

        fn path(&self) -> &Path {
            &self.follower.path
        }

        fn append(&self, bytes: &[u8]) {
            let mut file = OpenOptions::new().create(true).append(true).open(self.path()).unwrap();
            file.write_all(bytes).unwrap();
        }

        fn replace(&self, bytes: &[u8]) {
            let new = self.dir.path().join("new");
            fs::write(&new, bytes).unwrap();
            fs::rename(&new, self.path()).unwrap();
        }

        /// Polls until nothing more is waiting: (text, generation, end offset) of every line.
        fn poll(&mut self) -> Vec<(String, u32, u64)> {
            self.all(FileFollower::poll)
        }

        fn finish(&mut self) -> Vec<(String, u32, u64)> {
            self.all(FileFollower::finish)
        }

        fn all(&mut self, call: fn(&mut FileFollower) -> io::Result<Vec<FollowedLine>>) -> Vec<(String, u32, u64)> {
            let mut lines = Vec::new();
            loop {
                lines.extend(call(&mut self.follower).unwrap());
                if !self.follower.more_waiting() {
                    break;
                }
            }
            let text = |line: FollowedLine| (String::from_utf8(line.bytes).unwrap(), line.generation, line.offset);
            lines.into_iter().map(text).collect()
        }
    }

    fn line(text: &str, generation: u32, offset: u64) -> (String, u32, u64) {
        (text.to_owned(), generation, offset)
    }

    #[test]
    fn a_file_may_appear_late_and_grow_in_pieces() {
        let mut f = Fixture::new();
        assert_eq!(f.poll(), []);
        f.append(b"");
        assert_eq!(f.poll(), []);
        f.append(b"on");
        assert_eq!(f.poll(), []);
        f.append(b"e\ntwo\nthr");
        assert_eq!(f.poll(), [line("one", 1, 4), line("two", 1, 8)]);
        assert_eq!(f.poll(), []);
        f.append(b"ee\n");
        assert_eq!(f.poll(), [line("three", 1, 14)]);
        assert_eq!(f.finish(), []);
    }

    #[test]
    fn a_last_line_without_a_newline_is_a_line_at_the_end() {
        let mut f = Fixture::new();
        assert_eq!(f.finish(), []);
        f.append(b"one\ntwo");
        assert_eq!(f.poll(), [line("one", 1, 4)]);
        assert_eq!(f.finish(), [line("two", 1, 7)]);
        assert_eq!(f.finish(), []);
    }

    #[test]
    fn a_truncated_file_is_read_from_its_beginning_as_the_next_generation() {
        let mut f = Fixture::new();
        f.append(b"one\ntwo\nopen end");
        f.poll();
        fs::write(f.path(), b"new\n").unwrap();
        assert_eq!(f.poll(), [line("open end", 1, 16), line("new", 2, 4)]);
        f.append(b"more\n");
        assert_eq!(f.poll(), [line("more", 2, 9)]);
    }

    #[test]
    fn a_replaced_file_is_read_to_its_end_before_the_new_one() {
        let mut f = Fixture::new();
        f.append(b"one\n");
        f.poll();
        f.append(b"two\nthree");
        f.replace(b"new and longer than the old one\n");
        assert_eq!(f.poll(), [line("two", 1, 8), line("three", 1, 13), line("new and longer than the old one", 2, 32)]);
    }

    #[test]
    fn a_deleted_file_is_read_to_its_end_and_its_successor_follows() {
        let mut f = Fixture::new();
        f.append(b"one\n");
        f.poll();
        f.append(b"two\n");
        fs::remove_file(f.path()).unwrap();
        assert_eq!(f.poll(), [line("two", 1, 8)]);
        f.append(b"new\n");
        assert_eq!(f.poll(), [line("new", 2, 4)]);
    }

    #[test]
    fn all_that_was_written_is_read_when_the_file_was_replaced_just_before_the_end() {
        let mut f = Fixture::new();
        f.append(b"one\ntwo");
        f.poll();
        f.replace(b"new\nlast");
        assert_eq!(f.finish(), [line("two", 1, 7), line("new", 2, 4), line("last", 2, 8)]);
    }

    #[test]
    fn one_call_reads_a_bounded_piece_and_says_that_more_is_waiting() {
        let mut f = Fixture::new();
        let lines = MAX_READ / 8 * 3;
        f.append(&b"abcdefg\n".repeat(lines));
        for _ in 0..3 {
            assert_eq!(f.follower.poll().unwrap().len(), lines / 3);
            assert!(f.follower.more_waiting());
        }
        assert_eq!(f.follower.poll().unwrap(), []);
        assert!(!f.follower.more_waiting());
    }

    #[test]
    fn lines_that_are_too_long_are_counted_over_all_generations() {
        let mut f = Fixture::new();
        let long = [b"x".repeat(crate::metrics::MAX_LINE + 1), b"\nshort\n".to_vec()].concat();
        f.append(&long);
        assert_eq!(f.poll().len(), 1);
        f.replace(&long);
        assert_eq!(f.poll().len(), 1);
        assert_eq!(f.follower.too_long(), 2);
    }

    #[test]
    fn what_is_no_regular_file_is_an_error_until_it_is_one() {
        let mut f = Fixture::new();
        fs::create_dir(f.path()).unwrap();
        assert_eq!(f.follower.poll().unwrap_err().kind(), io::ErrorKind::IsADirectory);
        assert!(!f.follower.more_waiting());
        fs::remove_dir(f.path()).unwrap();
        std::os::unix::fs::symlink("/dev/zero", f.path()).unwrap();
        assert_eq!(f.follower.poll().unwrap_err().to_string(), "not a regular file");
        fs::remove_file(f.path()).unwrap();
        f.append(b"one\n");
        assert_eq!(f.poll(), [line("one", 1, 4)]);
    }
}
