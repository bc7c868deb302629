//! Pages of a list. Pure.
//!
//! Source: distribution-spec 1.1, "Listing Tags": `n`, `last`, `Link`, and lists in lexical order,
//! upper and lower case alike.

use form_urlencoded::{Serializer, parse};

use crate::error::{Code, Refusal};

/// Most entries of one page; a longer list has a `Link` to its next page.
pub const PAGE_MAX: usize = 10_000;

/// Which page is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// How many entries at most.
    pub most: Option<usize>,
    /// After which entry.
    pub after: Option<String>,
}

impl Asked {
    /// Reads a query.
    ///
    /// # Errors
    /// 400 if `n` is no number.
    pub fn parse(query: &str) -> Result<Asked, Refusal> {
        let mut asked = Asked::default();
        for (name, value) in parse(query.as_bytes()) {
            match name.as_ref() {
                "n" if value.is_empty() => {}
                "n" => {
                    let digits = value.bytes().all(|b| b.is_ascii_digit());
                    let bad = || {
                        let why = "n is not a number of entries";
                        Refusal::new(400, Code::PaginationNumberInvalid, why)
                    };
                    let most = digits.then(|| value.parse().unwrap_or(usize::MAX));
                    asked.most = Some(most.ok_or_else(bad)?);
                }
                "last" if !value.is_empty() => asked.after = Some(value.into_owned()),
                _ => {}
            }
        }
        Ok(asked)
    }

    /// The page of this list, which need not be in order, and whether there is more behind it.
    pub fn of(&self, mut list: Vec<String>) -> (Vec<String>, bool) {
        let key = |text: &str| (text.to_ascii_lowercase(), text.to_owned());
        list.sort_by_cached_key(|text| key(text));
        if let Some(after) = self.after.as_deref().map(key) {
            list.retain(|text| key(text) > after);
        }
        let most = self.most.unwrap_or(PAGE_MAX).min(PAGE_MAX);
        let more = list.len() > most && most > 0;
        list.truncate(most);
        (list, more)
    }

    /// The header `Link` of a page that ends with this entry.
    pub fn link(&self, path: &str, last: &str) -> String {
        let mut query = Serializer::new(String::new());
        if let Some(most) = self.most {
            query.append_pair("n", &most.to_string());
        }
        query.append_pair("last", last);
        format!("<{path}?{}>; rel=\"next\"", query.finish())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_page_begins_after_the_last_of_the_one_before() {
        let page = |query: &str| Asked::parse(query).unwrap().of(list("b A c a"));
        assert_eq!(page(""), (list("A a b c"), false));
        assert_eq!(page("n=2"), (list("A a"), true));
        assert_eq!(page("n=2&last=a"), (list("b c"), false));
        assert_eq!(page("n=4"), (list("A a b c"), false));
        assert_eq!(page("last=bb"), (list("c"), false));
        assert_eq!(page("n=0"), (list(""), false));
        assert_eq!(Asked::parse("n=-1").unwrap_err().status, 400);
        assert_eq!(Asked::parse("n=x").unwrap_err().code, Code::PaginationNumberInvalid);
        let asked = Asked::parse("n=2").unwrap();
        assert_eq!(
            asked.link("/v2/_catalog", "a/b"),
            "</v2/_catalog?n=2&last=a%2Fb>; rel=\"next\""
        );
    }

    proptest! {
        #[test]
        fn pages_together_are_the_list(
            all in proptest::collection::btree_set("[A-Za-z0-9]{1,3}", 0..30),
            most in 1_usize..10,
        ) {
            let all: Vec<String> = all.into_iter().collect();
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let asked = Asked { most: Some(most), after };
                let (page, more) = asked.of(all.clone());
                seen.extend(page.iter().cloned());
                if !more { break }
                after = page.last().cloned();
            }
            let mut sorted = seen.clone();
            sorted.sort();
            prop_assert_eq!(sorted, all);
        }
    }
}
