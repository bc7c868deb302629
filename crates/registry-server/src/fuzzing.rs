//! For fuzz targets alone.

use crate::{page::Asked, range, route::Route, wire::Manifest};

/// A path, a query and headers of ranges: the first line, the second, the third.
pub fn request(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    if let Ok(Route::Tags(name)) = Route::parse(line()) {
        let again = format!("/v2/{name}/tags/list");
        assert_eq!(Route::parse(&again), Ok(Route::Tags(name)), "a name that is read otherwise");
    }
    if let Ok(asked) = Asked::parse(line()) {
        let _ = asked.of(vec!["a".to_owned(), "B".to_owned()]);
    }
    let header = line();
    if let range::Wanted::Part { first, last } = range::wanted(Some(header), 1000) {
        assert!(first <= last && last < 1000, "bytes that are not there");
    }
    if let Some((first, last)) = range::brought(header) {
        assert!(first <= last && last < u64::MAX, "bytes that cannot be");
    }
}

/// A manifest as it is put.
pub fn manifest(bytes: &[u8]) {
    let _ = Manifest::parse(bytes, None);
}
