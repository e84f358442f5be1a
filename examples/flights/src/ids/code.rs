use std::{fmt, ops::RangeInclusive, str::FromStr};

use super::{InvalidName, as_text};

/// Capital letters and digits in an array; the bytes after them are zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Code<const N: usize>([u8; N]);

impl<const N: usize> Code<N> {
    fn read(text: &str, lengths: RangeInclusive<usize>) -> Option<Code<N>> {
        let is_code = text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        if !is_code || !lengths.contains(&text.len()) {
            return None;
        }
        let mut code = [0; N];
        code.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Code(code))
    }

    fn as_str(&self) -> &str {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(N);
        let text = self.0.get(..end).unwrap_or_default();
        str::from_utf8(text).unwrap_or_default()
    }
}

macro_rules! code {
    ($(#[$doc:meta])* $name:ident, $lengths:expr, $bytes:literal, $what:literal, $wanted:literal,
     $pattern:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Code<$bytes>);

        impl $name {
            /// The code as text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<$name, InvalidName> {
                let code = Code::read(text, $lengths).map($name);
                code.ok_or_else(|| InvalidName::new(text, $what, $wanted))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        as_text!($name, $what, $pattern);
    };
}

code!(
    /// An airline by its code, such as `UA`.
    Airline,
    2..=2,
    2,
    "an airline's code",
    "two capital letters or digits, such as UA",
    "^[A-Z0-9]{2}$"
);

code!(
    /// An airport by its code, such as `EWR`.
    Airport,
    3..=3,
    3,
    "an airport's code",
    "three capital letters or digits, such as EWR",
    "^[A-Z0-9]{3}$"
);

code!(
    /// A plane by its tail number, such as `N14228`.
    Plane,
    2..=8,
    8,
    "a plane's tail number",
    "2 to 8 capital letters or digits, such as N14228",
    "^[A-Z0-9]{2,8}$"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_prints_the_text_that_it_was_parsed_from() {
        assert_eq!("UA".parse::<Airline>().unwrap().to_string(), "UA");
        assert_eq!("04G".parse::<Airport>().unwrap().as_str(), "04G");
        assert_eq!("N14228".parse::<Plane>().unwrap().as_str(), "N14228");
        assert_eq!("ABCDEFGH".parse::<Plane>().unwrap().as_str(), "ABCDEFGH");
    }

    #[test]
    fn an_error_about_a_code_shows_the_form_of_valid_codes() {
        for text in ["", "U", "UAL", "ua", "U ", "<s", "Ü", "U\0"] {
            let error = text.parse::<Airline>().unwrap_err().to_string();
            assert!(error.ends_with("write two capital letters or digits, such as UA"), "{error}");
        }
        assert!("EW".parse::<Airport>().is_err());
        assert!("N-1".parse::<Plane>().is_err());
        let endless = "A".repeat(1_000_000).parse::<Plane>().unwrap_err().to_string();
        assert!(endless.len() < 200, "{endless}");
    }
}
