//! A key or token that shows itself nowhere but in a request's header.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// A key or token.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: Arc<str>,
    is_token: bool,
}

impl Secret {
    /// A secret of this text. It is taken for a token if it has the form of a JSON Web Token.
    pub fn new(text: &str) -> Self {
        Secret {
            text: text.into(),
            is_token: text.starts_with("eyJ") && text.matches('.').count() == 2,
        }
    }

    /// A token, whatever its form.
    pub fn token(text: &str) -> Self {
        Secret {
            text: text.into(),
            is_token: true,
        }
    }

    /// The text itself, to be put into a request's header and nowhere else.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Whether it is a token, which is a bearer everywhere, and not a key.
    pub fn is_token(&self) -> bool {
        self.is_token
    }

    /// The text with every copy of this secret blanked.
    pub fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.text.is_empty() || !text.contains(&*self.text) {
            return Cow::Borrowed(text);
        }
        Cow::Owned(text.replace(&*self.text, "***"))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}
