//! `WWW-Authenticate`: what a registry wants to see before it answers. Pure.
//!
//! Source: RFC 9110, section 11.6.1 and appendix A (`WWW-Authenticate = #challenge`);
//! distribution's "Token Authentication Specification".

/// Longest header that is read.
const HEADER_BYTES_MAX: usize = 8 << 10;
/// Most challenges of one header.
const CHALLENGES_MAX: usize = 16;
/// Most parameters of one challenge.
const PARAMETERS_MAX: usize = 32;

/// One way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A token that somebody else gives out.
    Bearer {
        /// Where it is asked for.
        realm: String,
        /// For which service.
        service: Option<String>,
        /// To do what.
        scope: Option<String>,
    },
    /// A name and a password.
    Basic,
    /// Something that we cannot do.
    Other(String),
}

/// Reads one header. What cannot be read ends the list, so what comes before it counts.
pub fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    if header.len() > HEADER_BYTES_MAX {
        return challenges;
    }
    let mut rest = Rest(header);
    while challenges.len() < CHALLENGES_MAX {
        rest.skip_separators();
        let Some(scheme) = rest.token() else { break };
        let Some(parameters) = parameters(&mut rest) else { break };
        match challenge(scheme, &parameters) {
            Some(challenge) => challenges.push(challenge),
            None => break,
        }
    }
    challenges
}

fn challenge(scheme: &str, parameters: &[(String, String)]) -> Option<Challenge> {
    let find = |name: &str| {
        let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    };
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Some(Challenge::Other(scheme.to_owned()));
    }
    let realm = find("realm")?;
    Some(Challenge::Bearer { realm, service: find("service"), scope: find("scope") })
}

/// `name=value` pairs up to the next scheme or the end.
fn parameters(rest: &mut Rest<'_>) -> Option<Vec<(String, String)>> {
    let mut parameters = Vec::new();
    loop {
        let before = *rest;
        rest.skip_separators();
        let Some(name) = rest.token() else { break };
        rest.skip_space();
        if !rest.eat('=') {
            // The next challenge's scheme, or a token68 of a scheme that is not ours.
            *rest = before;
            break;
        }
        rest.skip_space();
        let value = rest.value()?;
        if parameters.len() == PARAMETERS_MAX {
            return None;
        }
        parameters.push((name.to_owned(), value));
    }
    Some(parameters)
}

/// What is not read yet.
#[derive(Clone, Copy, Debug)]
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn skip_space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    fn skip_separators(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t', ',']);
    }

    fn eat(&mut self, wanted: char) -> bool {
        let Some(rest) = self.0.strip_prefix(wanted) else { return false };
        self.0 = rest;
        true
    }

    /// RFC 9110, section 5.6.2.
    fn token(&mut self) -> Option<&'a str> {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let end = self.0.find(|c| !is_token(c)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        (!token.is_empty()).then_some(token)
    }

    fn value(&mut self) -> Option<String> {
        if !self.eat('"') {
            return self.token().map(str::to_owned);
        }
        let mut value = String::new();
        let mut chars = self.0.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.0 = self.0.get(at + 1..).unwrap_or_default();
                    return Some(value);
                }
                '\\' => value.push(chars.next()?.1),
                c if c.is_control() && c != '\t' => return None,
                c => value.push(c),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer { realm: realm.to_owned(), service: own(service), scope: own(scope) }
    }

    #[test]
    fn what_registries_send_is_read() {
        let hub = r#"Bearer realm="https://auth.example/token",service="reg.example",scope="repository:a/b:pull,push""#;
        let want = bearer(
            "https://auth.example/token",
            Some("reg.example"),
            Some("repository:a/b:pull,push"),
        );
        assert_eq!(parse(hub), [want]);
        assert_eq!(parse("Basic realm=\"a, b=c\""), [Challenge::Basic]);
        assert_eq!(parse("basic"), [Challenge::Basic]);
        let both = r#"Negotiate, BEARER Realm = "x\"y" , service=s, Basic realm="r""#;
        let negotiate = Challenge::Other("Negotiate".to_owned());
        assert_eq!(parse(both), [negotiate, bearer("x\"y", Some("s"), None), Challenge::Basic]);
    }

    #[test]
    fn what_makes_no_sense_is_not_guessed() {
        let long = "x".repeat(HEADER_BYTES_MAX + 1);
        for bad in [
            "",
            ",,",
            "Bearer",
            "Bearer realm=",
            "Bearer realm=\"x",
            "Bearer realm=\"\"",
            "Bearer service=\"x\"",
            "=x",
            "Bearer realm=\"a\u{1}b\"",
            "Bearer realm=\"a\\",
            &long,
        ] {
            assert_eq!(parse(bad), [], "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_fail(text in any::<String>()) {
            prop_assert!(parse(&text).len() <= CHALLENGES_MAX);
        }

        #[test]
        fn quoted_text_comes_back(realm in "[ -~]{1,40}") {
            let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
            prop_assert_eq!(parse(&format!("Bearer realm=\"{quoted}\"")), [bearer(&realm, None, None)]);
        }
    }
}
