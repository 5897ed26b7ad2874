//! Bytes of a script in hexadecimal digits. Memory of QuickJS could only be read by unsafe code.

/// Returns the bytes of digits that QuickJS wrote.
pub(crate) fn bytes(digits: &str) -> Vec<u8> {
    digits.as_bytes().chunks(2).map(|pair| pair.iter().fold(0, |byte, &one| byte << 4 | value(one))).collect()
}

fn value(digit: u8) -> u8 {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_bytes() {
        assert_eq!(bytes("00ff10a5"), [0, 255, 16, 165]);
        assert_eq!(bytes(""), []);
    }
}
