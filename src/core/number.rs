//! A number for a person.

/// A number for a person, the same text in every message, table and Event: as it is where that is short (nine
/// characters at most), else five digits that count, and never fewer than stand before the point of a number below ten million.
/// What a program reads has the exact value instead.
pub fn number(value: f64) -> String {
    // No person tells -0 from 0.
    let value = if value == 0.0 { 0.0 } else { value };
    let text = value.to_string();
    if text.len() <= 9 || !value.is_finite() {
        return text;
    }
    let magnitude = value.abs();
    if (1e4..1e7).contains(&magnitude) {
        return format!("{value:.0}");
    }
    // Rounded in decimal, then written with the fewest digits: no zeros at the end.
    let digits = format!("{value:.4e}");
    let Some(rounded) = digits.parse().ok().filter(|rounded: &f64| rounded.is_finite()) else { return digits };
    if (1e-4..1e7).contains(&magnitude) { format!("{rounded}") } else { format!("{rounded:e}") }
}

#[cfg(test)]
mod tests {
    use super::number;
    use proptest::prelude::*;

    #[test]
    fn a_number_is_short_and_as_exact_as_a_person_reads() {
        let numbers = [
            (0.9731, "0.9731"),
            (1.0, "1"),
            (0.0, "0"),
            (-0.0, "0"),
            (0.123_456_789_01, "0.12346"),
            (0.1 + 0.2, "0.3"),
            (-1.0 / 3.0, "-0.33333"),
            (9.999_999_999, "10"),
            (99_999.999_99, "100000"),
            (12_345.678_901, "12346"),
            (1_234_567.891, "1234568"),
            (9_999_999.99, "10000000"),
            (-1_234.567_891, "-1234.6"),
            (12_345_678.0, "12345678"),
            (12_345_678.9, "1.2346e7"),
            (123_456_789_012.0, "1.2346e11"),
            (1e-7, "0.0000001"),
            (1.234_567_890_12e-7, "1.2346e-7"),
            (0.000_123_456_78, "0.00012346"),
            (1e-5, "0.00001"),
            (1e300, "1e300"),
            (-1e-300, "-1e-300"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7977e308"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, text) in numbers {
            assert_eq!(number(value), text, "{value:e}");
        }
    }

    proptest! {
        #[test]
        fn a_number_is_short_and_read_back_as_almost_the_same(value: f64) {
            let text = number(value);
            prop_assert!(text.len() <= 12, "{text}");
            if let (true, Ok(read)) = (value.is_finite(), text.parse::<f64>()) {
                prop_assert!((read - value).abs() <= value.abs() * 5.1e-5 || (read - value).abs() < 1e-320, "{text}");
            }
        }
    }
}
