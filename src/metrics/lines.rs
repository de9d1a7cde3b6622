//! From chunks of bytes to lines of bounded length.

/// The longest line that is read, in bytes, without what ends it. A longer one is dropped as a whole.
pub const MAX_LINE: usize = 64 * 1024;

/// A line that has ended, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The line, without what ended it.
    pub bytes: &'a [u8],
    /// How many bytes of the stream, what ended the line included, had then been taken.
    pub end: u64,
    /// Whether it comes after a bare `\r`: what stamps each line of a log has not stamped it.
    pub continues: bool,
}

/// Cuts a stream of bytes into lines; where the chunks begin and end makes no difference.
///
/// A line ends with `\n` or with `\r`: a progress bar rewrites itself after a bare `\r`. Empty lines are not
/// passed on, so `\r\n` ends one line.
#[derive(Debug, Default)]
pub struct LineSplitter {
    /// The beginning of the line that has not ended yet; empty while a line is being dropped.
    partial: Vec<u8>,
    dropping: bool,
    /// The line that has not ended yet comes after a bare `\r`.
    continues: bool,
    offset: u64,
    too_long: u64,
}

impl LineSplitter {
    /// A splitter at the beginning of a stream.
    pub fn new() -> LineSplitter {
        LineSplitter::default()
    }

    /// Takes the next bytes of the stream and calls `each` with every line that ends in them.
    pub fn push(&mut self, mut chunk: &[u8], mut each: impl FnMut(Line)) {
        while let Some(length) = chunk.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (line, rest) = (&chunk[..length], &chunk[length + 1..]);
            self.offset += length as u64 + 1;
            if self.dropping || !self.partial.is_empty() {
                self.extend(line);
                each_line(&self.partial, self.offset, self.continues, &mut each);
                self.partial.clear();
            } else if length > MAX_LINE {
                self.too_long += 1;
            } else {
                each_line(line, self.offset, self.continues, &mut each);
            }
            self.dropping = false;
            self.continues = chunk[length] == b'\r';
            chunk = rest;
        }
        self.offset += chunk.len() as u64;
        self.extend(chunk);
    }

    /// The end of the stream: calls `each` with a last line that nothing ended. The next line is a new one.
    pub fn finish(&mut self, mut each: impl FnMut(Line)) {
        each_line(&self.partial, self.offset, self.continues, &mut each);
        self.partial.clear();
        (self.dropping, self.continues) = (false, false);
    }

    /// How many bytes of the stream were taken.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// How many lines were dropped because they are longer than [`MAX_LINE`].
    pub fn too_long(&self) -> u64 {
        self.too_long
    }

    /// Adds to the line that has not ended yet.
    fn extend(&mut self, bytes: &[u8]) {
        if self.dropping {
            return;
        }
        if self.partial.len() + bytes.len() > MAX_LINE {
            self.partial.clear();
            self.dropping = true;
            self.too_long += 1;
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }
}

fn each_line(bytes: &[u8], end: u64, continues: bool, each: &mut impl FnMut(Line)) {
    if !bytes.is_empty() {
        each(Line { bytes, end, continues });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All lines with their end offsets, and how many were too long.
    fn split<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<(Vec<u8>, u64)>, u64) {
        let mut splitter = LineSplitter::new();
        let mut lines = Vec::new();
        for chunk in chunks {
            splitter.push(chunk, |line| lines.push((line.bytes.to_vec(), line.end)));
        }
        splitter.finish(|line| lines.push((line.bytes.to_vec(), line.end)));
        (lines, splitter.too_long())
    }

    fn texts(bytes: &[u8]) -> Vec<String> {
        split([bytes]).0.into_iter().map(|(line, _)| String::from_utf8(line).unwrap()).collect()
    }

    #[test]
    fn newlines_carriage_returns_and_both_end_a_line() {
        assert_eq!(texts(b"a\nb\r\nc\rd\n\n\re"), ["a", "b", "c", "d", "e"]);
        assert_eq!(texts(b""), [""; 0]);
        assert_eq!(texts(b"\r\n\r\n"), [""; 0]);
    }

    #[test]
    fn a_line_ends_behind_the_byte_that_ends_it() {
        let ends: Vec<u64> = split([b"ab\ncd\r\nef".as_slice()]).0.into_iter().map(|(_, end)| end).collect();
        assert_eq!(ends, [3, 6, 9]);
    }

    #[test]
    fn what_comes_after_a_bare_carriage_return_continues_a_line() {
        let mut splitter = LineSplitter::new();
        let mut seen = Vec::new();
        splitter.push(b"a\rb\rc\nd\r", |line| seen.push(line.continues));
        splitter.push(b"\ne\r", |line| seen.push(line.continues));
        splitter.finish(|_| panic!("nothing is left"));
        splitter.push(b"f\n", |line| seen.push(line.continues));
        assert_eq!(seen, [false, true, true, false, false, false]);
    }

    #[test]
    fn a_line_without_an_end_is_passed_on_only_at_the_end_of_the_stream() {
        let mut splitter = LineSplitter::new();
        splitter.push(b"half", |line| panic!("{line:?} has not ended"));
        splitter.push(b" a line", |line| panic!("{line:?} has not ended"));
        let mut seen = Vec::new();
        splitter.finish(|line| seen.push((line.bytes.to_vec(), line.end)));
        assert_eq!(seen, [(b"half a line".to_vec(), 11)]);
    }

    #[test]
    fn a_line_over_the_limit_is_dropped_as_a_whole_and_the_next_one_is_read() {
        let longest = vec![b'x'; MAX_LINE];
        for (length, kept) in [(MAX_LINE, true), (MAX_LINE + 1, false), (3 * MAX_LINE, false)] {
            let mut bytes = vec![b'x'; length];
            bytes.extend(b"\nnext");
            for size in [1, 1000, MAX_LINE, bytes.len()] {
                let (lines, too_long) = split(bytes.chunks(size));
                let first = kept.then(|| (longest.clone(), MAX_LINE as u64 + 1));
                let expected: Vec<_> = first.into_iter().chain([(b"next".to_vec(), bytes.len() as u64)]).collect();
                assert!(lines == expected, "{length} bytes in chunks of {size}");
                assert_eq!(too_long, u64::from(!kept));
            }
        }
    }

    #[test]
    fn a_line_over_the_limit_that_never_ends_is_counted_once_and_not_kept_in_memory() {
        let mut splitter = LineSplitter::new();
        for _ in 0..1000 {
            splitter.push(&[b'x'; 1000], |_| panic!("nothing ended"));
            assert!(splitter.partial.capacity() <= 2 * MAX_LINE);
        }
        assert_eq!(splitter.too_long(), 1);
        splitter.finish(|_| panic!("it was dropped"));
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_lines(
            chunks in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..20), 0..20),
        ) {
            let whole = chunks.concat();
            prop_assert_eq!(split(chunks.iter().map(Vec::as_slice)), split([whole.as_slice()]));
        }
    }
}
