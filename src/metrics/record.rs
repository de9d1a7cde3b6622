//! Records of TensorFlow's TFRecord format, of which event files are made: a length, its checksum, the data, its checksum
//! (<https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details>).

use crc::{CRC_32_ISCSI, Crc, Table};

/// The longest record that is read, in bytes. A longer one holds images, histograms or a graph, and is skipped.
pub const MAX_RECORD: u64 = 256 * 1024;

/// The length and its checksum.
const HEADER: usize = 12;

/// The checksum of the data.
const FOOTER: usize = 4;

/// How many bytes hold any record that is read, whole.
pub(super) const MOST_BYTES: u64 = MAX_RECORD + (HEADER + FOOTER) as u64;

/// CRC-32C.
const CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISCSI);

/// What bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    /// A record.
    Record {
        data: &'a [u8],
        /// How many bytes it takes in the file.
        size: u64,
    },
    /// A record whose data is damaged.
    Damaged { size: u64 },
    /// A record that is longer than [`MAX_RECORD`]; it need not be there yet.
    Long { size: u64 },
    /// A part of a record: more is to come.
    Part,
    /// No record: its length is damaged, and where the next one begins is not known.
    Broken,
}

/// What `bytes` begin with, which begin where a record does.
pub(super) fn next(bytes: &[u8]) -> Next<'_> {
    let Some((header, rest)) = bytes.split_at_checked(HEADER) else { return Next::Part };
    let (length, checksum) = header.split_at(8);
    if masked(CRC.checksum(length)) != little_endian(checksum) as u32 {
        return Next::Broken;
    }
    let length = little_endian(length);
    let Some(size) = length.checked_add((HEADER + FOOTER) as u64) else { return Next::Broken };
    if length > MAX_RECORD {
        return Next::Long { size };
    }
    let Some((data, rest)) = rest.split_at_checked(length as usize) else { return Next::Part };
    let Some(checksum) = rest.get(..FOOTER) else { return Next::Part };
    if masked(CRC.checksum(data)) != little_endian(checksum) as u32 {
        return Next::Damaged { size };
    }
    Next::Record { data, size }
}

/// A checksum as it is stored: of what itself holds checksums it would be a poor one.
fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The number that up to eight bytes are.
pub(super) fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The record that holds `data`.
#[cfg(test)]
pub(super) fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let checksums = [length.as_slice(), data].map(|bytes| masked(CRC.checksum(bytes)).to_le_bytes());
    [&length, checksums[0].as_slice(), data, &checksums[1]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_record_of_an_event_file_is_read_to_its_last_byte() {
        // As TensorFlow writes it.
        let bytes = b"\x18\0\0\0\0\0\0\0\xa3\x7f\x4b\x22\x09\0\0\xc0\xa0\xb8\xdb\x75\x43\x1a\x0dbrain.Event:2";
        assert_eq!(next(bytes), Next::Part);
        for length in 0..bytes.len() {
            assert_eq!(next(&bytes[..length]), Next::Part);
        }
    }

    #[test]
    fn a_damaged_record_is_passed_over_and_a_damaged_length_ends_a_file() {
        let whole = record(b"hello");
        assert_eq!(next(&whole), Next::Record { data: b"hello", size: 21 });
        let damaged = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        };
        for at in 0..HEADER {
            assert_eq!(next(&damaged(at)), Next::Broken, "{at}");
        }
        for at in HEADER..whole.len() {
            assert_eq!(next(&damaged(at)), Next::Damaged { size: 21 }, "{at}");
        }
        assert_eq!(next(&record(b"")), Next::Record { data: b"", size: 16 });
    }

    #[test]
    fn a_long_record_is_skipped_before_it_is_there() {
        for (length, is_long) in [(MAX_RECORD, false), (MAX_RECORD + 1, true), (u64::MAX - 16, true)] {
            let header = length.to_le_bytes();
            let header = [header.as_slice(), &masked(CRC.checksum(&header)).to_le_bytes()].concat();
            let expected = if is_long { Next::Long { size: length + 16 } } else { Next::Part };
            assert_eq!(next(&header), expected);
        }
        let header = u64::MAX.to_le_bytes();
        let header = [header.as_slice(), &masked(CRC.checksum(&header)).to_le_bytes()].concat();
        assert_eq!(next(&header), Next::Broken);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            next(&bytes);
            next(&record(&bytes));
        }

        #[test]
        fn what_was_written_is_read(data in prop::collection::vec(any::<u8>(), 0..300), more in prop::collection::vec(any::<u8>(), 0..20)) {
            let bytes = [record(&data), more].concat();
            prop_assert_eq!(next(&bytes), Next::Record { data: &data, size: data.len() as u64 + 16 });
        }
    }
}
