//! TensorFlow's Event messages: which scalars a record of an event file holds.
//!
//! Of a message only the fields that a scalar needs are read
//! (<https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/event.proto>, `summary.proto` and
//! `tensor.proto` beside it); all others are walked over.

use super::record::little_endian;

/// What an event says of scalars.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Event {
    /// The trainer's own progress unit.
    pub step: i64,
    /// The scalars by tag, in the order of the record.
    pub scalars: Vec<(String, f64)>,
}

/// The plugin whose values are scalars.
const SCALARS: &str = "scalars";

/// Reads an event. None where it is no message.
pub(super) fn event(message: &[u8]) -> Option<Event> {
    let mut event = Event::default();
    let mut fields = Fields(message);
    while let Some(field) = fields.next()? {
        match field {
            (2, Field::Number(step)) => event.step = step.cast_signed(),
            (5, Field::Bytes(summary)) => read_summary(summary, &mut event.scalars)?,
            _ => {}
        }
    }
    Some(event)
}

fn read_summary(message: &[u8], scalars: &mut Vec<(String, f64)>) -> Option<()> {
    let mut fields = Fields(message);
    while let Some(field) = fields.next()? {
        if let (1, Field::Bytes(value)) = field {
            scalars.extend(scalar(value)?);
        }
    }
    Some(())
}

/// The scalar of a Summary.Value; Some(None) where it is something else, such as an image.
#[allow(clippy::option_option, reason = "a message that is none, and one that holds no scalar")]
fn scalar(message: &[u8]) -> Option<Option<(String, f64)>> {
    let (mut tag, mut value, mut is_of_other_plugin) = (String::new(), None, false);
    let mut fields = Fields(message);
    while let Some(field) = fields.next()? {
        match field {
            (1, Field::Bytes(name)) => tag = String::from_utf8_lossy(name).into_owned(),
            (2, Field::Fixed32(bits)) => value = Some(widened(f32::from_bits(bits))),
            (8, Field::Bytes(tensor)) => value = single(tensor)?,
            (9, Field::Bytes(metadata)) => {
                is_of_other_plugin = plugin(metadata)?.is_some_and(|name| name != SCALARS.as_bytes());
            }
            _ => {}
        }
    }
    Some(value.filter(|_| !is_of_other_plugin && !tag.is_empty()).map(|value| (tag, value)))
}

/// The name of the plugin that a SummaryMetadata is for. Only TensorFlow 2 gives it.
#[allow(clippy::option_option, reason = "a message that is none, and one that names no plugin")]
fn plugin(metadata: &[u8]) -> Option<Option<&[u8]>> {
    let mut name = None;
    let mut fields = Fields(metadata);
    while let Some(field) = fields.next()? {
        let (1, Field::Bytes(data)) = field else { continue };
        let mut inner = Fields(data);
        while let Some(field) = inner.next()? {
            if let (1, Field::Bytes(text)) = field {
                name = Some(text).filter(|text| !text.is_empty());
            }
        }
    }
    Some(name)
}

/// What the numbers of a tensor are.
#[derive(Clone, Copy)]
enum Type {
    Float,
    Double,
    Half,
    BFloat16,
    Int32,
    Int64,
}

/// The number of a tensor that holds a single one, such as TensorFlow 2 writes for a scalar.
#[allow(clippy::option_option, reason = "a message that is none, and one that holds no single number")]
fn single(tensor: &[u8]) -> Option<Option<f64>> {
    let (mut kind, mut content, mut listed) = (None, &tensor[..0], None);
    let mut count = 0;
    let mut fields = Fields(tensor);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Number(name)) => kind = Type::named(name),
            (4, Field::Bytes(bytes)) => content = bytes,
            // half_val, float_val, double_val, int_val, int64_val.
            (13 | 5 | 6 | 7 | 10, field) => {
                count += 1;
                listed = Some((number, field));
            }
            _ => {}
        }
    }
    let Some(kind) = kind else { return Some(None) };
    if !content.is_empty() {
        return Some((content.len() == kind.size()).then(|| kind.number(little_endian(content))));
    }
    let Some((_, field)) = listed.filter(|(number, _)| *number == kind.list() && count == 1) else {
        return Some(None);
    };
    Some(match (field, kind) {
        (Field::Fixed32(bits), Type::Float) => Some(kind.number(bits.into())),
        (Field::Fixed64(bits), Type::Double) => Some(kind.number(bits)),
        (Field::Number(bits), Type::Half | Type::BFloat16 | Type::Int32 | Type::Int64) => Some(kind.number(bits)),
        // Packed, as proto3 writes lists of numbers.
        (Field::Bytes(bytes), Type::Float | Type::Double) => {
            (bytes.len() == kind.size()).then(|| kind.number(little_endian(bytes)))
        }
        (Field::Bytes(bytes), _) => {
            let mut rest = Fields(bytes);
            let bits = rest.varint()?;
            rest.0.is_empty().then(|| kind.number(bits))
        }
        _ => None,
    })
}

impl Type {
    /// The type of a number in TensorFlow's `types.proto`.
    fn named(number: u64) -> Option<Type> {
        Some(match number {
            1 => Type::Float,
            2 => Type::Double,
            3 => Type::Int32,
            9 => Type::Int64,
            14 => Type::BFloat16,
            19 => Type::Half,
            _ => return None,
        })
    }

    /// How many bytes a number of it takes.
    fn size(self) -> usize {
        match self {
            Type::Half | Type::BFloat16 => 2,
            Type::Float | Type::Int32 => 4,
            Type::Double | Type::Int64 => 8,
        }
    }

    /// The field of a TensorProto that lists numbers of it.
    fn list(self) -> u64 {
        match self {
            Type::Half | Type::BFloat16 => 13,
            Type::Float => 5,
            Type::Double => 6,
            Type::Int32 => 7,
            Type::Int64 => 10,
        }
    }

    fn number(self, bits: u64) -> f64 {
        match self {
            Type::Float => widened(f32::from_bits(bits as u32)),
            Type::Double => f64::from_bits(bits),
            Type::Half => half(bits as u16),
            Type::BFloat16 => widened(f32::from_bits((bits as u32) << 16)),
            Type::Int32 => f64::from(bits as i32),
            Type::Int64 => bits.cast_signed() as f64,
        }
    }
}

/// The double that is written as the float is: 0.985, and not 0.985000014305115, which would miss a target of 0.985 or
/// reach it too early.
fn widened(float: f32) -> f64 {
    float.to_string().parse().unwrap_or(f64::NAN)
}

/// A float of 16 bits.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => fraction * (-24f64).exp2(),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * f64::from(exponent - 25).exp2(),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

/// A field of a message (<https://protobuf.dev/programming-guides/encoding/>).
#[derive(Clone, Copy, Debug, PartialEq)]
enum Field<'a> {
    Number(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// What is left of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next field with its number; Some(None) at the end, None where this is no message.
    #[allow(clippy::option_option, reason = "a message that is none, and the end of one")]
    fn next(&mut self) -> Option<Option<(u64, Field<'a>)>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Number(self.varint()?),
            1 => Field::Fixed64(little_endian(self.take(8)?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Field::Bytes(self.take(length)?)
            }
            5 => Field::Fixed32(little_endian(self.take(4)?) as u32),
            _ => return None,
        };
        Some(Some((key >> 3, field)))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = u64::from(*self.take(1)?.first()?);
            number |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

/// The message of a scalar as PyTorch writes it.
#[cfg(test)]
pub(super) fn message(step: i64, tag: &str, value: f32) -> Vec<u8> {
    let bytes = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
    let mut varint = step.cast_unsigned();
    let mut event = vec![2 << 3];
    while varint >= 0x80 {
        event.push(varint as u8 | 0x80);
        varint >>= 7;
    }
    event.push(varint as u8);
    let value = [bytes(1, tag.as_bytes()), vec![2 << 3 | 5], value.to_le_bytes().to_vec()].concat();
    event.extend(bytes(5, &bytes(1, &value)));
    event
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(tensor: &[u8]) -> Option<f64> {
        single(tensor).unwrap()
    }

    #[test]
    fn a_scalar_of_pytorch_is_a_float_with_a_tag() {
        let read = event(&message(300, "val/loss", 0.25)).unwrap();
        assert_eq!(read, Event { step: 300, scalars: vec![("val/loss".to_owned(), 0.25)] });
        assert_eq!(event(&message(-1, "a", 0.5)).unwrap().step, -1);
    }

    #[test]
    fn a_float_is_the_double_that_is_written_alike() {
        for text in ["0.985", "0.1", "-3.4e38", "1e-45", "16777216", "NaN", "inf", "-inf"] {
            let float: f32 = text.parse().unwrap();
            assert_eq!(widened(float).to_string(), float.to_string(), "{text}");
        }
    }

    #[test]
    fn a_tensor_is_a_scalar_where_it_holds_one_number_of_a_known_type() {
        let content = |kind: u8, bytes: &[u8]| value(&[&[8, kind, 4 << 3 | 2, bytes.len() as u8], bytes].concat());
        assert_eq!(content(1, &0.5f32.to_le_bytes()), Some(0.5));
        assert_eq!(content(2, &0.1f64.to_le_bytes()), Some(0.1));
        assert_eq!(content(3, &(-7i32).to_le_bytes()), Some(-7.0));
        assert_eq!(content(9, &(-7i64).to_le_bytes()), Some(-7.0));
        assert_eq!(content(14, &[0x40, 0x3f]), Some(0.75));
        assert_eq!(content(19, &0x3800u16.to_le_bytes()), Some(0.5));
        assert_eq!(content(1, &[0; 8]), None, "two of them");
        assert_eq!(content(7, b"text"), None);
        let listed = |kind: u8, field: &[u8]| value(&[&[8, kind], field].concat());
        assert_eq!(listed(1, &[5 << 3 | 5, 0, 0, 0, 0x3f]), Some(0.5));
        assert_eq!(listed(1, &[5 << 3 | 2, 4, 0, 0, 0, 0x3f]), Some(0.5), "packed");
        assert_eq!(listed(2, &[6 << 3 | 1, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f]), Some(0.5));
        assert_eq!(listed(3, &[7 << 3, 9]), Some(9.0));
        assert_eq!(listed(9, &[10 << 3 | 2, 2, 0x80, 1]), Some(128.0), "packed");
        assert_eq!(listed(19, &[13 << 3 | 2, 2, 0x80, 0x70]), Some(0.5), "packed");
        assert_eq!(listed(3, &[7 << 3, 9, 7 << 3, 9]), None, "two of them");
        assert_eq!(listed(1, &[7 << 3, 9]), None, "of another type");
    }

    #[test]
    fn a_half_is_read_over_its_whole_range() {
        let cases = [
            (0x0000, 0.0),
            (0x0001, 5.960_464_477_539_063e-8),
            (0x3c00, 1.0),
            (0x7bff, 65504.0),
            (0xc000, -2.0),
            (0x7c00, f64::INFINITY),
            (0xfc00, f64::NEG_INFINITY),
        ];
        for (bits, number) in cases {
            assert_eq!(half(bits), number, "{bits:x}");
        }
        assert!(half(0x7e00).is_nan());
    }

    #[test]
    fn a_tensor_of_another_plugin_is_no_scalar() {
        let with = |plugin: &[u8]| {
            let data = [&[10, plugin.len() as u8], plugin].concat();
            let metadata = [&[10, data.len() as u8], data.as_slice()].concat();
            let tail = [&[9 << 3 | 2, metadata.len() as u8], metadata.as_slice()].concat();
            scalar(&[b"\x0a\x01a\x15\0\0\0\x3f", tail.as_slice()].concat()).unwrap()
        };
        assert_eq!(with(b"scalars"), Some(("a".to_owned(), 0.5)));
        assert_eq!(with(b""), Some(("a".to_owned(), 0.5)));
        assert_eq!(with(b"histograms"), None);
    }

    #[test]
    fn what_is_no_message_is_none() {
        for bytes in [&b"\xff"[..], b"\x2a\x05a", b"\x0b", b"\x11\0\0", b"\x2a\x02\x0a\x09", &[0xff; 20]] {
            assert_eq!(event(bytes), None, "{bytes:?}");
        }
        assert_eq!(event(b""), Some(Event::default()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            event(&bytes);
            let _ = (scalar(&bytes), single(&bytes), plugin(&bytes));
        }

        #[test]
        fn a_message_that_is_damaged_anywhere_is_read_without_a_panic(at in 0usize..30, byte in any::<u8>()) {
            let mut bytes = message(7, "accuracy", 0.5);
            let at = at % bytes.len();
            bytes[at] = byte;
            event(&bytes);
        }
    }
}
