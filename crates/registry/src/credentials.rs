//! Who asks. Never shown: [`fmt::Debug`] prints `***`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What proves to a registry who asks.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credentials {
    /// A name and a password.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: String,
    },
    /// A token that is exchanged for others (OAuth2's refresh token; Docker's `identitytoken`).
    Identity(String),
    /// A token that is sent as it is (Docker's `registrytoken`).
    Bearer(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Basic { username, .. } => write!(f, "Basic({username:?}, ***)"),
            Credentials::Identity(_) => f.write_str("Identity(***)"),
            Credentials::Bearer(_) => f.write_str("Bearer(***)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let basic = Credentials::Basic { username: "me".into(), password: "s3cret".into() };
        let all =
            [basic, Credentials::Identity("s3cret".into()), Credentials::Bearer("s3cret".into())];
        for shown in all.map(|credentials| format!("{credentials:?}")) {
            assert!(shown.contains("***") && !shown.contains("s3cret"), "{shown}");
        }
    }
}
