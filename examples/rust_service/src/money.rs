//! Rupees, exact to the paisa.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount in paise, a hundredth of a rupee each; in JSON a whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Paise(pub(crate) i64);

impl Paise {
    /// So many times the amount; nothing where that is too much.
    pub(crate) fn times(self, quantity: i32) -> Option<Self> {
        self.0.checked_mul(quantity.into()).map(Self)
    }

    /// The sum; nothing where that is too much.
    pub(crate) fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }
}

impl fmt::Display for Paise {
    /// As people write it in India: ₹12,34,567.50.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, amount) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let rupees = (amount / 100).to_string();
        let mut grouped = String::new();
        for (index, digit) in rupees.chars().enumerate() {
            let rest = rupees.len() - index;
            // Thousands first, then hundreds of them.
            if index > 0 && rest >= 3 && rest % 2 == 1 {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        write!(formatter, "{sign}₹{grouped}.{:02}", amount % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rupees_are_written_as_in_india() {
        let cases = [
            (5, "₹0.05"),
            (99_900, "₹999.00"),
            (100_000, "₹1,000.00"),
            (1_234_567, "₹12,345.67"),
            (12_345_678, "₹1,23,456.78"),
            (123_456_750, "₹12,34,567.50"),
            (-150, "-₹1.50"),
            (i64::MIN, "-₹92,23,37,20,36,85,47,758.08"),
        ];
        for (paise, text) in cases {
            assert_eq!(Paise(paise).to_string(), text);
        }
    }

    #[test]
    fn what_is_too_much_is_no_amount() {
        assert_eq!(Paise(19_950).times(3).and_then(|three| three.plus(Paise(50))), Some(Paise(59_900)));
        assert_eq!(Paise(i64::MAX).times(2), None);
        assert_eq!(Paise(i64::MAX).plus(Paise(1)), None);
    }
}
