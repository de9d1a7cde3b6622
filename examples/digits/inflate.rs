//! Reads a gzip file (RFC 1952), whose content is compressed by deflate (RFC 1951).
//!
//! The shortest way that is easy to follow, one bit at a time: the data is small.

/// The longest Huffman code, in bits.
const MAX_BITS: usize = 15;
/// The code length code's own lengths come in this order (RFC 1951, 3.2.7).
const LENGTH_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
/// Of a match's length symbols, from 257 on: the shortest length ...
const LENGTHS: [usize; 29] =
    [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];
/// ... and how many bits follow with what adds to it.
const LENGTH_BITS: [u32; 29] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
/// How many symbols there are for a match's distance.
const DISTANCE_SYMBOLS: usize = 30;
/// The symbol that ends a block.
const END_OF_BLOCK: usize = 256;

/// The content of a gzip file of one member.
pub fn gunzip(file: &[u8]) -> Result<Vec<u8>, String> {
    let mut input = Bits::new(file);
    skip_header(&mut input)?;
    let content = inflate(&mut input)?;
    input.skip_to_byte();
    let crc = input.u32()?;
    let length = input.u32()?;
    if !input.at_end() {
        return Err("there is more after the end of the gzip data; write it as a single member".into());
    }
    if crc != crc32(&content) {
        return Err("the CRC32 differs: the file is damaged; take a fresh copy".into());
    }
    // The length is stored modulo 2^32.
    if length != content.len() as u32 {
        return Err(format!("{} bytes came out, but the file says {length}", content.len()));
    }
    Ok(content)
}

fn skip_header(input: &mut Bits) -> Result<(), String> {
    if (input.u8()?, input.u8()?) != (0x1f, 0x8b) {
        return Err("not a gzip file: it does not start with 1f 8b".into());
    }
    let method = input.u8()?;
    if method != 8 {
        return Err(format!("compression method {method}; only 8 (deflate) is known"));
    }
    let flags = input.u8()?;
    let [header_crc, extra, name, comment] = [2, 4, 8, 16].map(|flag| flags & flag != 0);
    if flags & 0b1110_0000 != 0 {
        return Err(format!("reserved gzip flags are set: {flags:#010b}"));
    }
    input.skip(6)?; // time, extra flags, operating system
    if extra {
        let length = input.u16()?;
        input.skip(length.into())?;
    }
    for _ in 0..usize::from(name) + usize::from(comment) {
        while input.u8()? != 0 {}
    }
    if header_crc {
        input.skip(2)?;
    }
    Ok(())
}

fn inflate(input: &mut Bits) -> Result<Vec<u8>, String> {
    let mut output = Vec::new();
    loop {
        let is_last = input.bits(1)? == 1;
        match input.bits(2)? {
            0 => stored_block(input, &mut output)?,
            1 => {
                let (literals, distances) = fixed_codes()?;
                compressed_block(input, &literals, &distances, &mut output)?;
            }
            2 => {
                let (literals, distances) = dynamic_codes(input)?;
                compressed_block(input, &literals, &distances, &mut output)?;
            }
            _ => return Err("damaged: a block has the reserved type 3".into()),
        }
        if is_last {
            return Ok(output);
        }
    }
}

fn stored_block(input: &mut Bits, output: &mut Vec<u8>) -> Result<(), String> {
    input.skip_to_byte();
    let length = input.u16()?;
    if input.u16()? != !length {
        return Err("damaged: a stored block's length and its complement disagree".into());
    }
    for _ in 0..length {
        output.push(input.u8()?);
    }
    Ok(())
}

fn compressed_block(
    input: &mut Bits,
    literals: &Huffman,
    distances: &Huffman,
    output: &mut Vec<u8>,
) -> Result<(), String> {
    loop {
        let symbol = literals.symbol(input)?;
        if let Ok(byte) = u8::try_from(symbol) {
            output.push(byte);
            continue;
        }
        if symbol == END_OF_BLOCK {
            return Ok(());
        }
        let length = length(input, symbol)?;
        let distance = distance(input, distances)?;
        let Some(start) = output.len().checked_sub(distance) else {
            return Err(format!("damaged: a match {distance} bytes back, but only {} came out", output.len()));
        };
        // Byte by byte: a match may run into what it writes itself.
        for from in start..start + length {
            output.push(output[from]);
        }
    }
}

fn length(input: &mut Bits, symbol: usize) -> Result<usize, String> {
    let index = symbol - END_OF_BLOCK - 1;
    match (LENGTHS.get(index), LENGTH_BITS.get(index)) {
        (Some(shortest), Some(&bits)) => Ok(shortest + input.bits(bits)?),
        _ => Err(format!("damaged: length symbol {symbol} does not exist")),
    }
}

fn distance(input: &mut Bits, distances: &Huffman) -> Result<usize, String> {
    let symbol = distances.symbol(input)?;
    if symbol >= DISTANCE_SYMBOLS {
        return Err(format!("damaged: distance symbol {symbol} does not exist"));
    }
    if symbol < 2 {
        return Ok(symbol + 1);
    }
    // From here on each pair of symbols has one extra bit more: 3, 4, 5-6, 7-8, 9-12, 13-16, ...
    let extra = symbol / 2 - 1;
    let shortest = ((2 + symbol % 2) << extra) + 1;
    Ok(shortest + input.bits(extra as u32)?)
}

fn fixed_codes() -> Result<(Huffman, Huffman), String> {
    let mut lengths = [8; 288];
    lengths[144..256].fill(9);
    lengths[256..280].fill(7);
    Ok((Huffman::new(&lengths)?, Huffman::new(&[5; DISTANCE_SYMBOLS])?))
}

fn dynamic_codes(input: &mut Bits) -> Result<(Huffman, Huffman), String> {
    let literal_count = input.bits(5)? + 257;
    let distance_count = input.bits(5)? + 1;
    let order_count = input.bits(4)? + 4;
    let mut code_lengths = [0; LENGTH_ORDER.len()];
    for &symbol in LENGTH_ORDER.iter().take(order_count) {
        code_lengths[symbol] = input.bits(3)? as u8;
    }
    let length_code = Huffman::new(&code_lengths)?;

    // Both codes' lengths are one sequence: a repeat may cross from the first into the second.
    let total = literal_count + distance_count;
    let mut lengths: Vec<u8> = Vec::with_capacity(total);
    while lengths.len() < total {
        let symbol = length_code.symbol(input)?;
        let (length, repeat) = match symbol {
            16 => {
                let Some(&previous) = lengths.last() else {
                    return Err("damaged: the first code length repeats one before it".into());
                };
                (previous, 3 + input.bits(2)?)
            }
            17 => (0, 3 + input.bits(3)?),
            18 => (0, 11 + input.bits(7)?),
            _ => (symbol as u8, 1), // 0 to 15
        };
        lengths.resize(lengths.len() + repeat, length);
    }
    if lengths.len() > total {
        return Err("damaged: code lengths repeat past their end".into());
    }
    let (literals, distances) = lengths.split_at(literal_count);
    Ok((Huffman::new(literals)?, Huffman::new(distances)?))
}

/// A canonical Huffman code: shorter codes come first, and codes of one length are in their symbols' order.
struct Huffman {
    /// How many codes there are of each length.
    counts: [usize; MAX_BITS + 1],
    /// All symbols that have a code, in the order of their codes.
    symbols: Vec<usize>,
}

impl Huffman {
    /// Builds the code from each symbol's code length; 0 means that the symbol does not occur.
    fn new(lengths: &[u8]) -> Result<Self, String> {
        let mut counts = [0; MAX_BITS + 1];
        for &length in lengths {
            counts[usize::from(length)] += 1;
        }
        counts[0] = 0;
        let mut free = 1;
        for &count in &counts[1..] {
            free = 2 * free - count as i64;
            if free < 0 {
                return Err("damaged: a Huffman code has more symbols than it has room for".into());
            }
        }
        let mut symbols: Vec<usize> = (0..lengths.len()).filter(|&symbol| lengths[symbol] > 0).collect();
        symbols.sort_by_key(|&symbol| lengths[symbol]); // stable
        Ok(Self { counts, symbols })
    }

    /// Reads one symbol.
    fn symbol(&self, input: &mut Bits) -> Result<usize, String> {
        let mut code = 0; // the bits so far, less the first code of this length
        let mut shorter = 0; // how many symbols have shorter codes
        for &count in &self.counts[1..] {
            code |= input.bits(1)?;
            if code < count {
                return Ok(self.symbols[shorter + code]);
            }
            shorter += count;
            code = 2 * (code - count);
        }
        Err("damaged: a Huffman code that stands for no symbol".into())
    }
}

/// The input as a sequence of bits, each byte's lowest first.
struct Bits<'a> {
    bytes: &'a [u8],
    /// In bits.
    position: usize,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// A number of so many bits.
    fn bits(&mut self, count: u32) -> Result<usize, String> {
        let mut value = 0;
        for place in 0..count {
            let byte = self.bytes.get(self.position / 8).ok_or_else(truncated)?;
            value |= usize::from((byte >> (self.position % 8)) & 1) << place;
            self.position += 1;
        }
        Ok(value)
    }

    fn u8(&mut self) -> Result<u8, String> {
        Ok(self.bits(8)? as u8)
    }

    fn u16(&mut self) -> Result<u16, String> {
        Ok(self.bits(16)? as u16)
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(self.bits(32)? as u32)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), String> {
        self.position += 8 * bytes;
        if self.position > 8 * self.bytes.len() { Err(truncated()) } else { Ok(()) }
    }

    fn skip_to_byte(&mut self) {
        self.position = self.position.next_multiple_of(8);
    }

    fn at_end(&self) -> bool {
        self.position == 8 * self.bytes.len()
    }
}

fn truncated() -> String {
    "the file ends too early; take a fresh copy".into()
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGITS: &[u8] = include_bytes!("digits.csv.gz");
    /// "hello\n" in a stored block, in a file with a name.
    const STORED: &[u8] = b"\x1f\x8b\x08\x08\0\0\0\0\0\x03h\0\x01\x06\0\xf9\xffhello\n\x20\x30\x3a\x36\x06\0\0\0";
    /// "hello\n" with the fixed codes.
    const FIXED: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcb\x48\xcd\xc9\xc9\xe7\x02\0\x20\x30\x3a\x36\x06\0\0\0";

    #[test]
    fn known_crc() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn every_block_type_is_read() {
        assert_eq!(gunzip(STORED), Ok(b"hello\n".to_vec()));
        assert_eq!(gunzip(FIXED), Ok(b"hello\n".to_vec()));
        assert_eq!(gunzip(DIGITS).map(|content| content.len()), Ok(264_712));
    }

    #[test]
    fn truncated_files_are_errors() {
        for length in (0..FIXED.len()).chain([100]) {
            let file = if length < FIXED.len() { &FIXED[..length] } else { &DIGITS[..length] };
            assert_eq!(gunzip(file), Err(truncated()), "first {length} bytes");
        }
    }

    #[test]
    fn flipped_bits_are_errors() {
        // The header's time, extra flags and system, in bytes 4 to 9, are of no interest.
        for position in (0..4).chain(10..FIXED.len()) {
            for bit in 0..8 {
                let mut file = FIXED.to_vec();
                file[position] ^= 1 << bit;
                // The flag for "text" changes nothing; padding before the CRC is not read.
                if let Ok(content) = gunzip(&file) {
                    assert_eq!(content, b"hello\n", "byte {position} bit {bit}");
                }
            }
        }
    }
}
