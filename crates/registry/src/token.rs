//! What proves who we are: tokens, and names with passwords.
//!
//! Source: distribution, "Token Authentication Specification" and "OAuth2 Token Authentication".

use base64::{Engine as _, prelude::BASE64_STANDARD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    Method, Url,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use serde::Deserialize;

use crate::{
    Credentials, Endpoint, RegistryError, Repository,
    challenge::Challenge,
    exchange::{Ask, To, read, refusal},
};

/// Longest answer of a token service.
const TOKEN_BYTES_MAX: u64 = 256 << 10;
/// Who we are to a token service.
const CLIENT_ID: &str = "wythe";

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

impl Repository {
    /// The `Authorization` that answers these challenges.
    ///
    /// # Errors
    /// [`RegistryError::Denied`] if there are no credentials or they are not taken.
    pub(crate) async fn authorization(
        &self,
        at: &Endpoint,
        challenges: &[Challenge],
    ) -> Result<String, RegistryError> {
        // A mirror gets no credentials: they are the registry's.
        let credentials = self.credentials.as_ref().filter(|_| !at.mirror);
        if let Some(Credentials::Bearer(token)) = credentials {
            return header(at, format!("Bearer {token}"));
        }
        let denied = || RegistryError::Denied {
            what: if self.path.is_empty() { at.name.clone() } else { self.path.clone() },
            said: "no basic auth credentials".to_owned(),
        };
        for challenge in challenges {
            match (challenge, credentials) {
                (Challenge::Bearer { realm, service, scope }, _) => {
                    let wanted =
                        Wanted { realm, service: service.as_deref(), scope: scope.as_deref() };
                    let token = self.token(at, &wanted, credentials).await?;
                    return header(at, format!("Bearer {token}"));
                }
                (Challenge::Basic, Some(Credentials::Basic { username, password })) => {
                    return header(at, basic(username, password));
                }
                (Challenge::Basic, _) => return Err(denied()),
                (Challenge::Other(_), _) => {}
            }
        }
        Err(RegistryError::Challenge { host: at.name.clone() })
    }

    async fn token(
        &self,
        at: &Endpoint,
        wanted: &Wanted<'_>,
        credentials: Option<&Credentials>,
    ) -> Result<String, RegistryError> {
        let realm = || wanted.realm.chars().take(200).collect::<String>();
        let refused = || RegistryError::Realm { host: at.name.clone(), realm: realm() };
        let mut url = Url::parse(wanted.realm).map_err(|_| refused())?;
        let may = url.scheme() == "https" || (url.scheme() == "http" && at.insecure);
        if !may || !url.has_host() {
            return Err(refused());
        }
        let mut fields: Vec<(&str, &str)> = Vec::new();
        fields.extend(wanted.service.map(|service| ("service", service)));
        match (self.scopes.as_slice(), wanted.scope) {
            ([], scope) => fields.extend(scope.map(|scope| ("scope", scope))),
            (scopes, _) => fields.extend(scopes.iter().map(|scope| ("scope", scope.as_str()))),
        }
        let http = self.client.http(at, &url)?;
        let request = if let Some(Credentials::Identity(token)) = credentials {
            // OAuth2 takes one field of all scopes.
            let scopes: Vec<_> = fields
                .iter()
                .filter(|(name, _)| *name == "scope")
                .map(|(_, scope)| *scope)
                .collect();
            let scopes = scopes.join(" ");
            fields.retain(|(name, _)| *name != "scope");
            fields.extend([
                ("scope", scopes.as_str()),
                ("grant_type", "refresh_token"),
                ("client_id", CLIENT_ID),
                ("refresh_token", token),
            ]);
            let form = form(&fields);
            http.request(Method::POST, url)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form)
        } else {
            if let Some(Credentials::Basic { username, .. }) = credentials {
                fields.push(("account", username));
            }
            let query = match (url.query(), form(&fields)) {
                (Some(old), new) if !old.is_empty() && !new.is_empty() => format!("{old}&{new}"),
                (Some(old), _) if !old.is_empty() => old.to_owned(),
                (_, new) => new,
            };
            url.set_query(Some(&query));
            match credentials {
                Some(Credentials::Basic { username, password }) => {
                    http.get(url).header(AUTHORIZATION, basic(username, password))
                }
                _ => http.get(url),
            }
        };
        let sent = request.send().await;
        let response = sent.map_err(|source| RegistryError::Transport {
            host: at.name.clone(),
            source: source.without_url(),
        })?;
        if !response.status().is_success() {
            let what = if self.path.is_empty() { at.name.clone() } else { self.path.clone() };
            let ask = Ask::new(Method::GET, To::Path(String::new()), what, true);
            return Err(refusal(at, &ask, response, None).await);
        }
        let bytes = read(at, response, TOKEN_BYTES_MAX, "a token").await?;
        let malformed = || RegistryError::Malformed { host: at.name.clone(), what: "a token" };
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|_| malformed())?;
        let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
        token.ok_or_else(malformed)
    }
}

/// What a challenge asks for.
struct Wanted<'a> {
    realm: &'a str,
    service: Option<&'a str>,
    scope: Option<&'a str>,
}

fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}")))
}

fn form(fields: &[(&str, &str)]) -> String {
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let pairs = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// What a header can carry.
fn header(at: &Endpoint, text: String) -> Result<String, RegistryError> {
    match text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        true => Ok(text),
        false => Err(RegistryError::Malformed { host: at.name.clone(), what: "a token" }),
    }
}
