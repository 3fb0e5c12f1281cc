//! What an error of the system says, for people.

use std::io;

/// The error's text without its number: `Connection refused`, not `Connection refused (os error 111)`.
#[must_use]
pub fn text(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" (os error ") {
        Some((plain, _)) => plain.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_left_out() {
        assert_eq!(text(&io::Error::from_raw_os_error(libc::ECONNREFUSED)), "Connection refused");
        assert_eq!(text(&io::Error::other("odd (os")), "odd (os");
    }
}
